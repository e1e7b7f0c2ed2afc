"""`curve`: report loss and error along a curve."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from cluster.cli import arguments, training_run
from cluster.cli.export import picture_options, sizes
from cluster.terminal import print_json, print_text, warn


@click.command()
@arguments.SPEC
@click.option("--points", type=click.IntRange(min=2), default=61, show_default=True)
@click.option("--frame", type=click.IntRange(min=0), help="A frame on the way, not the end.")
@click.option(
    "--picture",
    type=click.Path(),
    metavar="OUT",
    help="Draw the report too: .png, .pdf or .svg.",
)
@click.option("--size", metavar="W[xH]", help="Of the picture: 2400 pixels, or 3.25in, 5.5x3in.")
@picture_options.BACKGROUND
@click.option("--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True)
@training_run.DEVICE
@arguments.TRUST
@click.option("--quiet", "-q", is_flag=True, help="Print the report alone: count no points.")
@arguments.JSON
def curve(
    spec: str,
    points: int,
    frame: int | None,
    picture: str | None,
    size: str | None,
    background: str,
    theme: str,
    device: str,
    trust: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Report loss and error along a curve, beside the straight line between its ends.

    SPEC is what `connect` was given, or a render's spec whose plane is of a curve. Statistics of
    batch norms are recomputed at every point. `ensemble` is the error of the averaged softmax of
    the start and the point: where it falls below both, they are different functions.

    \b
    Examples:
      lossatlas curve connect.yaml
      lossatlas curve connect.yaml --picture curve.png
      lossatlas curve connect.yaml --picture curve.pdf --size 3.25in --background white
      lossatlas curve spec.yaml --points 31 --json > curve.json
    """
    from cluster.monitor.progress import CountProgress
    from cluster.workers import devices
    from pipeline.errors import LossatlasError
    from pipeline.problem import trust as code_trust
    from pipeline.spec import read
    from pipeline.training import curve_report, inputs
    from pipeline.training.spec import read_connect

    if picture is not None:
        from renders.page.report import checked_path

        checked_path(picture)
        shape = sizes.size_or_width(size)
    on = devices.torch_device(device)
    progress = None if quiet else CountProgress("curve", "points")
    if _is_render(spec):
        if frame is not None:
            raise curve_report.ReportError(
                "--frame with a render's spec, which has one curve; wanted what lossatlas connect "
                "was given, whose folder has its states. Leave --frame out"
            )
        asked = read(spec)
        examples = asked.data.splits
        report = curve_report.of_render(asked, points, on, progress)
    else:
        search = read_connect(spec)
        with contextlib.suppress(LossatlasError):  # the spec's own file may be gone
            code_trust.note(inputs.named(search, inputs.read_codes(search)))
        examples = search.data.splits
        report = curve_report.of_run(search.out, points, on, progress, frame, search, trust, warn)
    content = report.as_dict()
    if picture is not None:
        from renders.page.report import write_report

        write_report(
            content, picture, examples=examples, theme=theme, background=background, size=shape
        )
    if as_json:
        print_json(content)
    else:
        print_text(f"{report.table()}\n")


def _is_render(spec: str) -> bool:
    """Whether a spec has a plane; whatever else is wrong with it is for its own reader to say."""
    import yaml

    try:
        content: Any = yaml.safe_load(Path(spec).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and "plane" in content

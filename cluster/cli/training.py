"""`fit`, `connect`, `curve`: training modes, finding a curve between them, and looking along it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.cli import shared
from cluster.cli.counter import Counter
from cluster.cli.pages import BACKGROUND, size_or_width
from cluster.terminal import print_json, print_line, print_text, warn

if TYPE_CHECKING:
    from pipeline.training.session import Outcome, Progress

    Train = Callable[[Callable[[Progress], None] | None], Outcome]

_STEPS_BETWEEN_LINES = 20

_TRAINING_DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="What to compute on; auto takes a GPU where there is one.",
)
_ADDRESS = click.option(
    "--address",
    metavar="HOST:PORT",
    help="Train on the Ray cluster there; `out` is then a folder of the machine that trains.",
)


@click.command()
@shared.SPEC
@_TRAINING_DEVICE
@_ADDRESS
@shared.QUIET
def fit(spec: str, device: str, address: str | None, quiet: bool) -> int:
    """Train one mode from scratch, for those who have no checkpoints yet.

    Seeded, and safe to interrupt: the same command goes on from the last checkpoint, and ends
    with the same bits. Leaves mode.safetensors in the spec's `out` folder.

    \b
    Examples:
      lossatlas fit fit.yaml
      lossatlas fit fit.yaml --device cuda
    """
    from pipeline.training import fit as fitting
    from pipeline.training.spec import read_fit

    prepared = fitting.prepare(read_fit(spec))
    return _train(_trainer(fitting.fit, prepared, device, address), "fit", spec, quiet)


@click.command()
@shared.SPEC
@_TRAINING_DEVICE
@_ADDRESS
@shared.QUIET
def connect(spec: str, device: str, address: str | None, quiet: bool) -> int:
    """Find a curve of low loss between two modes, keeping the way there as frames.

    Trains the bends of a Bézier curve or chain (Garipov et al. 2018). Safe to interrupt: the same
    command goes on from the last checkpoint, and ends with the same bits. Leaves
    curve.safetensors and frames/ in the spec's `out` folder; `plane: {kind: curve, weights:
    [start, end], frames: OUT/frames}` renders them as a film.

    \b
    Examples:
      lossatlas connect connect.yaml
      lossatlas connect connect.yaml --address 10.0.0.5:6379
    """
    from cluster import format
    from pipeline.training import connect as connecting
    from pipeline.training.spec import read_connect

    prepared = connecting.prepare(read_connect(spec))
    train = _trainer(connecting.connect, prepared, device, address)
    return _train(train, "connect", spec, quiet, then=f"next: lossatlas curve {format.place(spec)}")


@click.command()
@shared.SPEC
@click.option("--points", type=click.IntRange(min=2), default=61, show_default=True)
@click.option("--frame", type=click.IntRange(min=0), help="A frame on the way, not the end.")
@click.option(
    "--picture",
    type=click.Path(),
    metavar="OUT",
    help="Draw the report too: .png, .pdf or .svg.",
)
@click.option("--size", metavar="W[xH]", help="Of the picture: 2400 pixels, or 3.25in, 5.5x3in.")
@BACKGROUND
@click.option("--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True)
@_TRAINING_DEVICE
@shared.TRUST
@click.option("--quiet", "-q", is_flag=True, help="Print the report alone: count no points.")
@shared.JSON
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
    from pipeline.errors import LossatlasError
    from pipeline.problem import trust as trusting
    from pipeline.spec import read
    from pipeline.training import curve_report, inputs
    from pipeline.training.spec import read_connect

    if picture is not None:
        from renders.page.report import checked_path

        checked_path(picture)
        shape = size_or_width(size)
    chosen, progress = _device(device), None if quiet else Counter("curve", "points")
    if _is_render(spec):
        if frame is not None:
            raise curve_report.ReportError(
                "--frame with a render's spec, which has one curve; wanted what lossatlas connect "
                "was given, whose folder has its states. Leave --frame out"
            )
        asked = read(spec)
        sizes = asked.data.splits
        report = curve_report.of_render(asked, points, chosen, progress)
    else:
        search = read_connect(spec)
        with contextlib.suppress(LossatlasError):  # the spec's own file may be gone
            trusting.note(inputs.named(search, inputs.read_codes(search)))
        sizes = search.data.splits
        report = curve_report.of_run(
            search.out, points, chosen, progress, frame, search, trust, warn
        )
    content = report.as_dict()
    if picture is not None:
        from renders.page.report import write_report

        write_report(
            content, picture, examples=sizes, theme=theme, background=background, size=shape
        )
    if as_json:
        print_json(content)
    else:
        print_text(f"{report.table()}\n")


def _trainer(
    train: Callable[..., Outcome], prepared: Any, device: Any, address: str | None
) -> Train:
    """A training here, or on a cluster, that wants nothing more than who watches it."""
    if address is None:
        return lambda progress: train(prepared, _device(device), progress)
    from cluster.driver.trainer import train_on

    return lambda progress: train_on(address, train, prepared, device, progress)


def _train(
    train: Train,
    what: str,
    spec: str,
    quiet: bool,
    then: str | None = None,
) -> int:
    from cluster import format
    from cluster.workers.interrupts import EXIT_CODE, Interrupts

    with Interrupts():
        try:
            outcome = train(None if quiet else _Lines(what))
        except KeyboardInterrupt:
            print_line(f"stopped; go on with: lossatlas {what} {format.place(spec)}")
            return EXIT_CODE
    if not quiet:
        print_line(f"{outcome.result}: {outcome.steps:,} steps, last loss {outcome.losses[-1]:.4f}")
        if then is not None:
            print_line(then)
    return 0


class _Lines:
    """One line that is written over on a terminal; a line a twentieth of the way elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = 0.0
        self._first: int | None = None

    def __call__(self, progress: Progress) -> None:
        if self._first is None:
            self._first = progress.step
        share = progress.step / progress.steps
        ended = progress.step == progress.steps
        terminal = sys.stderr.isatty()
        if not terminal and share < self._next and not ended:
            return
        self._next = share + 1 / _STEPS_BETWEEN_LINES
        line = (
            f"{self._what}: epoch {progress.epoch:.1f}/{progress.epochs} · "
            f"loss {progress.loss:.4f} · lr {progress.lr:.2g}{self._left(progress)}"
        )
        end = "\n" if ended or not terminal else ""
        start = "\r\x1b[K" if terminal else ""  # numbers of ours alone
        print(f"{start}{line}", end=end, file=sys.stderr, flush=True)

    def _left(self, progress: Progress) -> str:
        from cluster import format

        made = progress.step - (self._first or 0)
        if made <= 0 or progress.step == progress.steps:
            return ""
        seconds = progress.seconds / made * (progress.steps - progress.step)
        return f" · ETA {format.duration(seconds)}"


def _device(asked: str) -> str:
    import torch

    from cluster.errors import ClusterError

    found = torch.cuda.is_available()
    if asked == "cuda" and not found:
        raise ClusterError("--device cuda: torch sees no GPU here; wanted one. Leave --device out")
    return "cuda" if found and asked != "cpu" else "cpu"


def _is_render(spec: str) -> bool:
    """Whether a spec has a plane; whatever else is wrong with it is for its own reader to say."""
    import yaml

    try:
        content: Any = yaml.safe_load(Path(spec).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and "plane" in content


COMMANDS = (fit, connect, curve)

"""Arguments and options that several commands share."""

from __future__ import annotations

import click

SPEC = click.argument("spec", type=click.Path(dir_okay=False))
RUN = click.argument("run", type=click.Path())
STORE = click.option(
    "--store", metavar="PATH|URL", help="Where the numbers go, instead of the spec's store."
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many workers; default: one a GPU, or one a CPU core.",
)
DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="What workers compute on; auto takes the GPUs where there are any.",
)
FRAMES = click.option(
    "--frames", metavar="A:B", help="Only these frames of a film, as Python counts them."
)
EVERY = click.option(
    "--every",
    type=click.IntRange(min=1),
    default=1,
    metavar="K",
    help="Every K-th frame first, the others after: a preview of a film exists early.",
)
OTHER_VERSIONS = click.option(
    "--other-versions",
    is_flag=True,
    help="Go on with another torch or numpy than the store was begun with: last bits may differ.",
)
QUIET = click.option("--quiet", "-q", is_flag=True, help="Say nothing but warnings and errors.")
LOG = click.option(
    "--log",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How progress is told: for people, or one JSON object a line.",
)
TRUST = click.option(
    "--trust",
    metavar="DIGEST",
    help="Run the code in it although no spec here named it; without this, the digest is told.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
JOBS = click.option(
    "--address",
    metavar="http://HOST:8265",
    envvar="RAY_API_SERVER_ADDRESS",
    help="The Jobs API: the dashboard of a Ray head, as a rule through a tunnel.",
)
PYTHON = click.option(
    "--python",
    default="python",
    show_default=True,
    metavar="PATH",
    help="The interpreter on the head that has lossatlas.",
)

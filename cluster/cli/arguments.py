"""Arguments and options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pipeline.spec import RenderSpec

F = TypeVar("F", bound=Callable[..., Any])

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


def run_options(command: F) -> F:
    chosen = (
        click.option(
            "--executor",
            type=click.Choice(["ray", "serial"]),
            default="ray",
            show_default=True,
            help="ray: workers in processes of their own; serial: here, for tiny grids.",
        ),
        WORKERS,
        DEVICE,
        click.option(
            "--address",
            metavar="HOST:PORT",
            help="Use the Ray cluster there instead of a private one on this machine.",
        ),
        FRAMES,
        EVERY,
        OTHER_VERSIONS,
        LOG,
        QUIET,
    )
    for option in reversed(chosen):
        command = option(command)
    return command


def read_spec(path: str, store: str | None) -> RenderSpec:
    """The spec in the file `path`, with `store` in place of its own where that is given.

    Raises:
        LossatlasError: it is no spec, or the store a URL with credentials in it.
    """
    from pipeline.spec import read
    from pipeline.url import store_url

    found = read(path)
    return found if store is None else found.model_copy(update={"store": store_url(store)})


def is_jobs_api(address: str | None) -> bool:
    """`http://HOST:8265`, against the `HOST:6379` of the cluster itself."""
    return (address or "").startswith(("http://", "https://"))

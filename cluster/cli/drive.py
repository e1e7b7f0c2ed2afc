"""`drive`: what the job of a render runs."""

from __future__ import annotations

import os
import platform
from typing import Any

import click

from cluster.cli import arguments
from cluster.terminal import print_line


@click.command(hidden=True)
@arguments.RUN
@arguments.WORKERS
@arguments.DEVICE
@arguments.FRAMES
@arguments.EVERY
@arguments.OTHER_VERSIONS
@arguments.LOG
@arguments.TRUST
def drive(run: str, trust: str | None, **how: Any) -> int:
    """Drive the store RUN from inside a job; `submit` and `resume` start this on the head.

    \b
    Examples:
      lossatlas drive s3://bucket/bowl.zarr
    """
    from cluster import options
    from cluster.driver import drive
    from cluster.errors import ClusterError
    from pipeline.store.store import Store
    from pipeline.url import is_url, store_url

    address = os.environ.get("RAY_ADDRESS")
    if not address:
        raise ClusterError(
            "lossatlas drive is what a job runs, and this is none (RAY_ADDRESS is not set); "
            "wanted lossatlas submit, or lossatlas resume"
        )
    url = store_url(run)
    if not is_url(url) and not Store.exists(url):
        raise ClusterError(
            f"{url} is not on {platform.node()}, where this job runs; wanted a place that all "
            "machines share. Use s3://…, or a file system mounted at the same path everywhere"
        )
    how |= {"executor": "ray", "address": address, "quiet": False}
    return drive.resume(url, options.from_command_line(how), print_line, trust)

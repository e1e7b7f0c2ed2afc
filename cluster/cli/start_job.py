"""Starting the job of a render: what `submit` and `resume` have in common."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cluster.terminal import print_line, warn

if TYPE_CHECKING:
    from cluster.jobs.client import Jobs
    from pipeline.problem.trust import Named
    from pipeline.store.store import Store


def refuse_if_driven(jobs: Jobs, store: Store) -> None:
    from cluster import format
    from cluster.errors import ClusterError
    from cluster.lease import Holder

    place = format.place(store.url)
    alive = jobs.alive_on(store.url)
    if alive is not None:
        raise ClusterError(
            f"{place} is being rendered by the job {alive.id} ({alive.state}); wanted a store "
            f"nobody works on. Wait for it, or lossatlas stop {place}"
        )
    holder = Holder.read_alive(store, time.time())
    if holder is not None:
        raise ClusterError(
            f"{place} is being rendered by {holder}; wanted a store nobody works on. Wait for it "
            "or stop it"
        )


def start(jobs: Jobs, store: Store, code: Named, how: dict[str, Any], quiet: bool) -> str | None:
    """Start the job that drives `store` and print its id; None where nothing is left to do."""
    from cluster import format
    from cluster.jobs.client import Note, entrypoint
    from cluster.scheduling import step_queue
    from cluster.scheduling.refinement_progress import all_text
    from pipeline import machine_notes

    place = format.place(store.url)
    if step_queue.finished(store):
        if not quiet:
            warn(f"{place}: all {all_text(store)} are done; nothing to do")
        return None
    told = ("workers", "device", "frames", "every", "other_versions", "log")
    kept = {name: how[name] for name in told}
    if code.digest:
        kept["trust"] = code.digest  # what was looked at here, and nothing else, runs there
    run = str(store.attrs["spec"].get("name"))
    before = Note.read(store)
    command = entrypoint(store.url, kept, how["python"])
    id_ = jobs.submit(run, store.url, command, after=before.id if before else "")
    print_line(id_)
    Note(id_, jobs.address, time.time()).write(store)
    machine_notes.write(f"job of {store.url}", address=jobs.address)
    if not quiet:
        warn(f"started; see lossatlas logs -f {place}, lossatlas status --watch {place}")
    return id_

"""The versions of torch and numpy that made a store's numbers: others may move last bits."""

from __future__ import annotations

import importlib.metadata
from datetime import UTC, datetime
from typing import Any

from pipeline.errors import LossatlasError
from pipeline.refinement.records import Records
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store
from pipeline.url import UnreachableError

NOTE = "versions.json"
NAMES = ("torch", "numpy")


class VersionsError(LossatlasError):
    """The store's numbers were made with another torch or numpy than is installed here."""


def installed() -> dict[str, str]:
    """The versions here. Builds of torch count as one: a driver may have no GPU."""
    return {name: importlib.metadata.version(name).partition("+")[0] for name in NAMES}


def used(store: Store) -> list[dict[str, Any]]:
    """The versions that the numbers of a store are of, one after another.

    Returns:
        Each by name; `since` too, where it came later. Of a store that says nothing, nothing.
    """
    note = store.read_note(NOTE)
    if note is not None:
        return list(note.get("used", ()))
    created = store.attrs.get("versions", {})
    if any(name not in created for name in NAMES):
        return []
    return [{name: str(created[name]).partition("+")[0] for name in NAMES}]


def require(store: Store, others_allowed: bool) -> None:
    """Hold the versions here to those that a store was begun with.

    Raises:
        VersionsError: they differ, other ones are not allowed, and something is rendered.
    """
    here, before = installed(), used(store)
    if others_allowed or not before or _among(here, before) or not _begun(store):
        return
    changed = [name for name in NAMES if before[-1][name] != here[name]]
    old, new = (
        " and ".join(f"{name} {versions[name]}" for name in changed)
        for versions in (before[-1], here)
    )
    raise VersionsError(
        f"{store.url} was rendered with {old}, and here is {new}: the last bits of new tiles may "
        f"differ from those that are there; wanted {old}. Install it, or say --other-versions"
    )


def note(store: Store) -> None:
    """Note in a store that what follows is of the versions here, where that is news.

    Raises:
        VersionsError: the store cannot be written.
        UnreachableError: a remote place does not answer.
    """
    here, before = installed(), used(store)
    if not before or _among(here, before):
        return
    since = {"since": datetime.now(UTC).isoformat(timespec="seconds")}
    followed = [*before, here | since] if _begun(store) else [here]
    try:
        store.write_note(NOTE, {"used": followed})
    except UnreachableError:
        raise
    except OSError as error:
        raise VersionsError(
            f"{store.url} cannot be written ({error.strerror or error}); wanted room for a note of "
            "the versions here. Mend that, then lossatlas resume"
        ) from None


def _among(here: dict[str, str], before: list[dict[str, Any]]) -> bool:
    return any(all(each.get(name) == here[name] for name in NAMES) for each in before)


def _begun(store: Store) -> bool:
    if store.committed() or StoredMarks(store).committed():
        return True
    return store.refined and bool(Records(store).committed())

"""Versions of torch and numpy: whose the numbers of a store are, and when others are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import versions
from pipeline.store.store import Store
from pipeline.versions import VersionsError
from tests.renders.films import commit_frame, film_store


def _begun_with(folder: Path, finished: int, **created: str) -> Store:
    """A store that says it was created with these versions, and so many of its tiles."""
    url = film_store(folder, frames=3, finished=finished)
    metadata = Path(url) / "zarr.json"
    content = json.loads(metadata.read_text())
    content["attributes"]["versions"] = versions.installed() | created
    metadata.write_text(json.dumps(content))
    return Store.open(url, writable=True)


def test_other_versions_are_refused_once_something_is_rendered(tmp_path: Path) -> None:
    store = _begun_with(tmp_path, 1, torch="1.13.0+cpu", python="2.7")
    here = versions.installed()["torch"]
    with pytest.raises(VersionsError) as caught:
        versions.require(store, others_allowed=False)
    assert str(caught.value) == (
        f"{store.url} was rendered with torch 1.13.0, and here is torch {here}: the last bits of "
        "new tiles may differ from those that are there; wanted torch 1.13.0. Install it, or say "
        "--other-versions"
    )
    versions.require(store, others_allowed=True)
    versions.note(store)
    (old, new) = versions.used(store)
    assert (old["torch"], new["torch"], "since" in new) == ("1.13.0", here, True)
    # From now on these are known.
    versions.require(store, others_allowed=False)
    versions.note(store)
    assert versions.used(store) == [old, new]


def test_who_begins_decides_and_not_who_made_the_store(tmp_path: Path) -> None:
    store = _begun_with(tmp_path, 0, numpy="1.0")
    versions.require(store, others_allowed=False)
    versions.note(store)
    assert versions.used(store) == [versions.installed()]
    commit_frame(store, next(store.grid.tiles()))
    versions.require(store, others_allowed=False)


def test_the_same_versions_and_stores_that_say_none_leave_no_note(tmp_path: Path) -> None:
    store = _begun_with(tmp_path, 1, torch=f"{versions.installed()['torch']}+cu128")
    versions.require(store, others_allowed=False)
    versions.note(store)
    assert store.read_note(versions.NOTE) is None
    (tmp_path / "old").mkdir()
    old = Store.open(film_store(tmp_path / "old"), writable=True)
    versions.require(old, others_allowed=False)
    versions.note(old)
    assert versions.used(old) == []

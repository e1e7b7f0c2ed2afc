"""Previews: the picture that the committed steps of a refinement predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.geometry.grid import Step, Tile
from pipeline.refinement import preview
from pipeline.refinement.preview import Preview
from pipeline.refinement.schedule import Schedule
from pipeline.refinement.step import Refinement
from pipeline.store.errors import StoreError
from pipeline.store.store import Store
from tests.refining import forget_schedule, refined_in


def seen_by(store: Store, committed: set[Step]) -> Preview:
    schedule = Schedule.read(store)
    assert schedule is not None
    return Preview(store, schedule, committed)


def test_a_preview_after_the_last_step_is_the_render_to_the_bit(refined_store: Store) -> None:
    shown = seen_by(refined_store, Refinement(refined_store).records.committed())
    assert shown.finished(0).all()
    assert np.array_equal(shown.level(0), np.asarray(refined_store.level(0)))
    for quantity in refined_store.quantities:
        whole = refined_store.read(quantity, "train")
        assert np.array_equal(shown.read(quantity, "train"), whole)
        expected = refined_store.predicted_error(quantity, "train")
        assert expected is not None
        assert np.array_equal(shown.predicted_error(quantity, "train"), expected)


def test_it_shows_what_is_evaluated_and_predicts_the_rest(
    begun_store: Store, refined_store: Store
) -> None:
    shown = Preview.of(begun_store)
    assert isinstance(shown, Preview)
    level, loss = shown.level(), shown.read("loss", "train")
    whole = refined_store.read("loss", "train")
    evaluated = level >= 0
    assert 0.06 < evaluated.mean() < 0.3
    assert shown.evaluated_share(0) == pytest.approx(evaluated.mean())
    assert set(np.unique(level)) == {-1, 0, 1}
    assert np.array_equal(loss[evaluated], whole[evaluated])
    assert shown.finished(0).all()
    # A bowl is a quadratic, which a cubic follows everywhere.
    assert np.abs(loss - whole).max() < 1e-4 * np.ptp(whole)
    error = shown.predicted_error("loss", "train")
    assert (error[evaluated] == 0).all()
    # Where no finer level has been looked at as a whole, nobody knows how good a prediction is.
    assert np.isinf(error[~evaluated]).all()


def test_only_what_can_be_predicted_counts_as_finished(begun_store: Store) -> None:
    gone = Tile(0, 1, 1)
    steps = Refinement(begun_store).records.committed()
    shown = seen_by(begun_store, {step for step in steps if step.tile != gone})
    rows, columns = begun_store.grid.window(gone)
    finished = shown.finished(0)
    assert not finished[rows, columns].all()
    assert finished[:8, :8].all()
    assert np.isnan(shown.read("loss", "train")[~finished]).all()
    assert (shown.level()[~finished] == -2).all()


def test_blocks_leave_no_seam(begun_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Preview.of(begun_store)
    monkeypatch.setattr(preview, "_BLOCK", 20)
    parts = Preview.of(begun_store)
    assert np.array_equal(whole.read("loss", "train"), parts.read("loss", "train"))
    errors = (each.predicted_error("loss", "train") for each in (whole, parts))
    assert np.array_equal(*map(np.asarray, errors))


def test_the_steps_are_listed_once_for_all_frames(
    begun_film: Store, listings: list[object]
) -> None:
    shown = Preview.of(begun_film)
    opened = len(listings)
    assert sorted(shown.finished_frames()) == [0, 1]
    for frame in (0, 1):
        shown.read("loss", "train", frame)
        shown.read("loss_stderr", "train", frame)
    assert len(listings) == opened == 2


def test_there_is_none_of_what_is_whole_or_was_not_begun(
    refined_store: Store, tmp_path: Path
) -> None:
    assert Preview.of(refined_store) is refined_store
    early = refined_in(tmp_path / "early", steps=5)
    assert Preview.of(early) is early
    assert not early.finished(0).any()
    never = refined_in(tmp_path / "never", steps=0)
    forget_schedule(never)
    assert Preview.of(never) is never


def test_a_damaged_record_is_named(begun_film: Store, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy.zarr"
    shutil.copytree(begun_film.url, copy)
    (chunk,) = (copy / "evaluated/values/c/0/1/0/0").glob("0")
    chunk.write_bytes(chunk.read_bytes()[:-3])
    shown = Preview.of(Store.open(str(copy)))
    shown.read("loss", "train", 0)
    with pytest.raises(StoreError, match=r"step 1/0/0, pass 0: .* Run lossatlas verify"):
        shown.read("loss", "train", 1)


def test_a_preview_cannot_be_written(begun_store: Store) -> None:
    shown = Preview.of(begun_store)
    assert isinstance(shown, Preview)
    assert not isinstance(shown, Store)
    assert not hasattr(shown, "commit")
    assert not hasattr(shown, "write_note")

"""What a user sees of a refinement on a terminal: status, info, plan, progress, the last lines."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.cli.stop import _done_text
from cluster.jobs.client import Job
from cluster.lease import Holder
from cluster.monitor import status
from cluster.monitor.progress import PassProgress, ProgressView
from cluster.scheduling import quarantine, refinement_progress
from cluster.scheduling.refinement_progress import RefinementReader
from cluster.scheduling.scheduler import Scheduler
from pipeline.audit import Certificate
from pipeline.geometry.grid import Grid, Step, Tile
from pipeline.refine_spec import RefineSpec
from pipeline.refinement.schedule import Schedule
from pipeline.store.store import Store
from tests.refining import GRID, forget_schedule, refined_in, spec_in

POINTS = GRID["width"] * GRID["height"]


def passes_of(store: Store) -> int:
    schedule = Schedule.read(store)
    assert schedule is not None
    return schedule.last + 1


def test_status_of_a_refinement_under_way(
    begun_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["status", begun_store.url]) == 0
    out = capsys.readouterr().out
    passes = passes_of(begun_store)
    assert f" %  16/{12 * passes} steps, pass 2 of {passes}: level 1 of 2" in out
    assert f"of {POINTS:,} evaluated" in out
    assert "not running; go on with: lossatlas resume" in out
    assert "preview  lossatlas export poster" in out
    assert "tiles" not in out
    assert main.run(["status", begun_store.url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["tiles_done"], told["eta_seconds"]) == ("stopped", 0, None)
    assert told["seconds_per_point"] > 0
    found = told["refinement"]
    assert (found["pass"], found["passes"], found["phase"]) == (2, passes, "level 1 of 2")
    assert (found["steps_done"], found["steps"], found["preview"]) == (16, 12 * passes, True)
    assert found["share_evaluated"] == found["points_evaluated"] / POINTS
    assert (found["certificate"], found["final"]) == (None, False)


def test_status_of_a_render_that_was_refined(
    refined_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    found = status.read_status(refined_store)
    assert found.state == "done"
    out = "\n".join(status.lines(found))
    steps = 12 * passes_of(refined_store)
    assert f"100 %  {steps}/{steps} steps\n" in out
    assert "the rest is predicted\n  audit    passed; at 95 % confidence at most " in out
    assert "preview" not in out
    made = found.as_dict()["refinement"]
    assert made["certificate"]["passed"]
    level = refined_store.level()
    assert level is not None
    assert made["points_evaluated"] == (level >= 0).sum()
    assert main.run(["info", refined_store.url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["refinement"]["points_evaluated"] == made["points_evaluated"]
    assert told["refinement"]["asked"]["scale"] == "linear"
    assert main.run(["info", refined_store.url]) == 0
    out = capsys.readouterr().out
    assert "refine             predicted within 0.2 % of the colour range, compared on a lin" in out
    assert "train loss         audited: 50 % within " in out


def test_status_before_the_first_pass_is_through(tmp_path: Path) -> None:
    store = refined_in(tmp_path / "early", steps=3)
    out = "\n".join(status.lines(status.read_status(store)))
    assert f"steps, pass 1 of {passes_of(store)}: coarsest points" in out
    assert "preview" not in out
    forget_schedule(store)
    shutil.rmtree(Path(store.url) / "evaluated" / "steps" / "c")
    found = status.read_status(store)
    assert (found.state, found.as_dict()["refinement"]["steps"]) == ("stopped", 12)
    assert "0/12 steps, pass 1 of 1: coarsest points" in "\n".join(status.lines(found))
    assert main.run(["info", store.url]) == 0


def test_a_running_pass_has_an_end_and_the_render_none(begun_store: Store) -> None:
    driver = Holder("x", "here", "m", 1, 1, 0.0, 2)
    found = status.read_status(begun_store)
    refining = found.refinement
    assert refining is not None
    assert refining.pass_steps_left == 8
    refining = replace(refining, seconds_a_step=3.0, seconds_per_point=0.5)
    found = replace(found, driver=driver, refinement=refining, seconds_per_point=0.5)
    assert "speed    4.0 points/s, this pass ends in about 12 s" in "\n".join(status.lines(found))
    told = found.as_dict()
    assert (told["state"], told["eta_seconds"]) == ("running", None)
    assert told["refinement"]["pass_eta_seconds"] == 12


def test_a_second_look_reads_only_what_is_new(
    begun_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = RefinementReader(begun_store)
    first = reader.read(())
    monkeypatch.setattr(reader.refinement.records, "facts", None)
    assert reader.read(()) == first


def test_a_damaged_step_does_not_stop_status(begun_store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    shutil.copytree(begun_store.url, copy)
    commit = copy / "evaluated/steps/c/0/0/0/1/1"
    commit.write_bytes(commit.read_bytes()[:-3])
    (copy / ".lossatlas/costs/pass-0.json").unlink()  # which would do without it
    found = status.read_status(Store.open(str(copy)))
    whole = status.read_status(begun_store)
    assert found.refinement is not None
    assert whole.refinement is not None
    assert found.refinement.steps_done == whole.refinement.steps_done
    assert found.refinement.summary.evaluated < whole.refinement.summary.evaluated


def test_passes_have_names() -> None:
    schedule = Schedule.begin(Grid(129, 129, 64), RefineSpec())
    names = [refinement_progress.phase(schedule, number) for number in range(schedule.last + 2)]
    levels = [f"level {k} of 3" for k in (1, 2, 3)]
    assert list(dict.fromkeys(names)) == ["coarsest points", *levels, "audit", ""]
    failed = Certificate(100, 50, 5, 0.2, 0.001, 0.95, {}, {})
    again = schedule.after_audit(failed, 0)
    assert refinement_progress.phase(again, schedule.last + 1) == "level 1 of 3, round 2"
    assert refinement_progress.phase(again, again.last) == "audit, round 2"
    passed = again.after_audit(replace(failed, bound=0.0), 0)
    assert refinement_progress.phase(passed, passed.last) == "composing"
    assert refinement_progress.phase(None, 0) == "coarsest points"
    whole = passed.with_request(None, parts=3)
    names = [
        refinement_progress.phase(whole, number)
        for number in range(passed.last + 1, whole.last + 1)
    ]
    parts = [f"every point, part {k} of 3" for k in (1, 2, 3)]
    assert names == [*parts, "composing"]
    assert refinement_progress.phase(passed.with_request(None), passed.last + 1) == "every point"


def test_progress_says_the_pass_and_the_share() -> None:
    now, out = [0.0], StringIO()
    scheduler = Scheduler([Step(1, 0, 0, 0)], 1)
    view = ProgressView("bowl", 16, 60, 0, False, False, out, lambda: now[0], "step")
    with view:
        view.show_pass(PassProgress("level 3 of 5", 610, 10_000))
        now[0] = 11.0
        view.ticked(scheduler)
    assert out.getvalue() == (
        "bowl: 16/60 steps 26 % · level 3 of 5, 6.1 % evaluated · starting workers\n"
    )


@pytest.mark.slow
def test_the_last_lines_of_a_render_and_of_a_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = str(spec_in(tmp_path))
    assert main.run(["plan", spec]) == 0
    out = capsys.readouterr().out
    assert "refine   points and time are the most it can take" in out
    assert "time     at most " in out
    assert main.run(["plan", spec, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refined"]
    assert main.run(["render", spec, "--executor", "serial"]) == 0
    _, points, audit, following = capsys.readouterr().out.splitlines()
    assert points.startswith("points: ")
    assert points.endswith("the rest is predicted")
    assert audit.startswith(
        "audit: passed; at 95 % confidence at most 5.9 % of the predicted points are "
    )
    assert following.startswith("next: ")
    store = str(tmp_path / "bowl.zarr")
    assert main.run(["resume", store]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [points, audit, following]
    # One more tile to compose: the same by machine.
    Store.open(store, writable=True).withdraw(Tile(0, 0, 0))
    assert main.run(["resume", store, "--executor", "serial", "--log", "json"]) == 0
    lines = [json.loads(line) for line in "".join(capsys.readouterr()).splitlines()]
    (told,) = [each for each in lines if each["event"] == "refined"]
    assert told["certificate"]["passed"]
    assert told["points"] == POINTS


def test_what_is_kept_is_said_in_steps_until_tiles_are_composed(
    begun_store: Store, refined_store: Store
) -> None:
    assert (
        refinement_progress.done_text(begun_store) == f"16 of {12 * passes_of(begun_store)} steps"
    )
    assert refinement_progress.done_text(refined_store) == "12 of 12 tiles"


def test_stop_says_so_too(begun_store: Store, refined_store: Store) -> None:
    job = Job("bowl-1", "bowl", begun_store.url, "STOPPED", None, 0.0)
    told = _done_text(job)
    assert told.startswith(f"; 16 of {12 * passes_of(begun_store)} steps are done and kept. Go on")
    job = replace(job, store=refined_store.url)
    assert _done_text(job) == "; 12 of 12 tiles are done and kept"


def test_only_steps_that_are_not_done_are_quarantined(begun_store: Store, tmp_path: Path) -> None:
    store = Store.open(str(shutil.copytree(begun_store.url, tmp_path / "a.zarr")), writable=True)
    done, left = Step(0, 0, 1, 1), Step(3, 0, 1, 1)
    for step in (done, left):
        quarantine.put(store, step, ["no loss here"])
    assert status.read_status(store).quarantined == {left: ("no loss here",)}

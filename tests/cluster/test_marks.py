"""Marks on the command line: stopped, damaged, given up, and told of."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import lossatlas
from cluster.cli import main
from cluster.cli.plan_table import plan_lines
from cluster.cli.stop import _done_text
from cluster.jobs.client import Job
from cluster.monitor.status import read_status
from cluster.scheduling import quarantine, step_queue
from cluster.scheduling.event_loop import run
from cluster.scheduling.mark_queue import MarkQueue
from cluster.scheduling.scheduler import Rules, Scheduler
from cluster.scheduling.selection import Selection
from cluster.scheduling.work_queue import TileQueue
from cluster.workers.workers import Device, RayWorkers
from pipeline import prepare
from pipeline.geometry.grid import MarkBlock, Work
from pipeline.plan import Plan
from pipeline.spec import read
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store
from pipeline.task import StepRenderer, TileFacts, TileRenderer
from tests.bowl import write_bowl
from tests.cluster.watcher import Watcher

SERIAL = ("--executor", "serial")
MARKS = 19
BLOCKS = [MarkBlock(0, 8), MarkBlock(8, 16), MarkBlock(16, 19)]


def lay_out(folder: Path, **changes: Any) -> Path:
    """A bowl with nineteen marks: fifteen of a line, their mean, and three samples."""
    run_folder = folder / "run"
    run_folder.mkdir(parents=True)
    for number, theta in enumerate(np.random.default_rng(5).standard_normal((15, 6))):
        tensor = torch.tensor(theta, dtype=torch.float32)
        save_file({"theta": tensor}, run_folder / f"epoch-{number}.safetensors")
    files = "run/epoch-*.safetensors"
    groups = [
        {"weights": files, "line": True},
        {"swa": files},
        {"swag": {"weights": files, "rank": 5, "samples": 3}},
    ]
    return write_bowl(folder, marks=groups, **changes)


def content(store: Path) -> dict[str, bytes]:
    """The bytes of every chunk whose numbers the render determines."""
    names = [p.name for p in store.iterdir() if p.name not in ("seconds", "worker")]
    return {
        str(path.relative_to(store)): path.read_bytes()
        for name in sorted(names)
        if not name.startswith(".") and name != "evaluated"
        for path in sorted((store / name).rglob("c/**/*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bowl's folder, rendered in one go."""
    folder = tmp_path_factory.mktemp("rendered") / "bowl"
    assert main.run(["render", str(lay_out(folder)), *SERIAL, "--quiet"]) == 0
    return folder


@pytest.fixture
def store(rendered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rendered / "bowl.zarr", tmp_path / "copy.zarr"))


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int, late: bool) -> None:
    """Have ^C pressed while task number `count` is rendered, or when it is committed."""
    render, begun = TileRenderer.__call__, iter(range(count))

    def render_or_stop(self: TileRenderer, work: Any) -> TileFacts:
        if next(begun, None) is not None:
            return render(self, work)
        if late:
            render(self, work)
        raise KeyboardInterrupt

    monkeypatch.setattr(TileRenderer, "__call__", render_or_stop)


@pytest.mark.parametrize(("count", "late"), [(0, False), (1, True), (4, False)])
def test_a_stopped_render_goes_on_to_the_same(
    rendered: Path,
    tmp_path: Path,
    count: int,
    late: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(rendered, tmp_path / "bowl"))
    shutil.rmtree(folder / "bowl.zarr")
    with monkeypatch.context() as patch:
        stop_after(patch, count, late)
        assert main.run(["render", str(folder / "bowl.yaml"), *SERIAL]) == 130
    marks = {0: 0, 1: 16, 4: 19}[count]
    assert f"and {marks} of 19 marks are done and kept" in capsys.readouterr().out
    store = Store.open(str(folder / "bowl.zarr"))
    assert not step_queue.finished(store)
    told = _done_text(Job("bowl-1", "bowl", store.url, "STOPPED", None, 0.0))
    assert f"and {marks} of 19 marks are done and kept. Go on with: lossatlas resume" in told
    then = {p: p.stat().st_mtime_ns for p in (folder / "bowl.zarr/mark_done").rglob("c/*")}
    assert main.run(["resume", store.url, *SERIAL]) == 0
    assert "6 tiles and 19 marks done" in capsys.readouterr().out
    assert content(folder / "bowl.zarr") == content(rendered / "bowl.zarr")
    assert {p: p.stat().st_mtime_ns for p in then} == then  # nothing was done twice
    assert step_queue.finished(store)
    assert main.run(["resume", store.url, *SERIAL]) == 0
    assert "all 6 tiles and 19 marks are done; nothing to do" in capsys.readouterr().out


@pytest.mark.ray
def test_ray_gives_the_same_marks_though_a_worker_dies(
    ray: Any, rendered: Path, store: Path, tmp_path: Path
) -> None:
    opened = Store.open(str(store), writable=True)
    for tile in opened.committed():
        opened.withdraw(tile)
    for block in StoredMarks(opened).blocks():
        StoredMarks(opened).withdraw(block)
    queue = MarkQueue(opened, TileQueue(opened, Selection()))
    assert queue.begin()[:3] == BLOCKS
    inputs = prepare.prepare(read(rendered / "bowl.yaml")).inputs
    device = Device("cpu", threads=1)
    workers = RayWorkers(ray, TileRenderer, inputs, opened.url, device)
    scheduler, watcher, killed = Scheduler(queue.begin(), 2, Rules()), Watcher(), list[int]()

    def kill_one() -> bool:
        if not killed and watcher.tiles:
            worker, handle = next(iter(workers._actors.items()))
            killed.append(worker)
            os.kill(ray.get(handle.report.remote())["pid"], signal.SIGKILL)
        return False

    try:
        run(scheduler, workers, watcher, kill_one)
    finally:
        workers.close()
    assert killed
    assert set(BLOCKS) < set(watcher.tiles)
    assert content(store) == content(rendered / "bowl.zarr")


def test_damaged_marks_are_named_put_back_and_mended(
    rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = rendered / "bowl.zarr"
    good = content(store)
    chunk = store / "mark_loss/c/0/1"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    assert main.run(["verify", str(store), "--dry-run"]) == 1
    out = capsys.readouterr().out
    assert "damage in 1 place, of 6 finished tiles and 19 marks" in out
    assert "  marks 8 to 15: mark_loss/c/0/1: " in out
    assert main.run(["verify", str(store), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (list(found["damaged"]), found["marks"], found["put_back"]) == (
        ["marks 8 to 15"],
        19,
        True,
    )
    assert main.run(["status", str(store), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["marks"], status["marks_done"]) == ("stopped", 19, 11)
    assert main.run(["status", str(store)]) == 0
    out = capsys.readouterr().out
    assert "  marks    11/19 evaluated\n" in out
    assert "not running; go on with" in out
    assert main.run(["resume", str(store), *SERIAL]) == 0
    assert "of 9 tasks are done" in capsys.readouterr().err
    assert content(store) == good
    assert main.run(["verify", str(store)]) == 0
    assert "6 finished tiles and 19 marks sound" in capsys.readouterr().out


def test_damaged_places_of_marks_are_named_and_not_put_back(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chunk = store / "mark/c/0/0/0"
    chunk.write_bytes(b"\0" + chunk.read_bytes()[1:])
    assert main.run(["verify", str(store)]) == 1
    out = capsys.readouterr().out
    assert "damage in 1 place, of 6 finished tiles and 19 marks" in out
    assert "\n  mark: mark/c/0/0/0: " in out
    assert "\nmark cannot be computed again by a task; " in out
    assert out.endswith("Render its spec to another store\n")
    assert main.run(["verify", str(store), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (list(found["damaged"]), found["put_back"]) == (["mark"], False)


def test_marks_that_always_fail_are_quarantined_named_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, store = lay_out(tmp_path / "bowl"), str(tmp_path / "bowl/bowl.zarr")

    class Poisoned(TileRenderer):
        def __call__(self, work: Any) -> TileFacts:
            if work == MarkBlock(8, 16):
                raise ValueError("no loss here")
            return super().__call__(work)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.task.TileRenderer", Poisoned)
        patch.setattr("cluster.driver.session.Rules", lambda: Rules(retry_first=0.05))
        assert main.run(["render", str(spec), *SERIAL]) == 3
    out, err = capsys.readouterr()
    assert "6 of 6 tiles and 11 of 19 marks done" in out
    assert "\n  marks 8 to 15: ValueError: no loss here" in out
    assert "lossatlas: marks 8 to 15 given up after 3 tries" in err
    opened = Store.open(store)
    assert list(quarantine.listed(opened)) == [MarkBlock(8, 16)]
    (Path(store) / ".lossatlas/quarantine/3.9.json").write_text("{}")  # none of its blocks
    assert main.run(["status", store]) == 0
    out = capsys.readouterr().out
    assert "    marks 8 to 15: ValueError: no loss here" in out
    assert "3 to" not in out
    assert main.run(["resume", store, *SERIAL]) == 0
    assert read_status(Store.open(store)).state == "done"
    assert quarantine.listed(opened) == {}


def test_a_mark_that_is_replaced_meanwhile_ends_the_render_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = lay_out(tmp_path / "bowl")
    prepared = prepare.prepare

    def prepare_and_replace(*asked: Any) -> Any:
        found = prepared(*asked)
        save_file({"theta": torch.ones(6)}, tmp_path / "bowl/run/epoch-3.safetensors")
        return found

    monkeypatch.setattr(prepare, "prepare", prepare_and_replace)
    assert main.run(["render", str(spec), *SERIAL, "--quiet"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("lossatlas: the mark ")
    assert told.count("\n") == 1


def test_plan_info_and_open_tell_of_marks(
    rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, store = str(rendered / "bowl.yaml"), str(rendered / "bowl.zarr")
    assert main.run(["plan", spec, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["marks"] == 19
    told = plan_lines(Plan(**plan))
    assert "  marks    19 evaluations more: epoch (15), SWA (1), SWAG (3)" in told
    assert plan["seconds"] == pytest.approx((35 + 19) * plan["seconds_a_point"] / plan["workers"])
    assert main.run(["info", store]) == 0
    out = capsys.readouterr().out
    assert "epoch (15), SWA (1), SWAG (3); 19 evaluated; up to " in out
    assert main.run(["info", store, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [group["count"] for group in facts["marks"]] == [15, 1, 3]
    assert facts["marks_done"] == 19
    found = lossatlas.open(store)
    assert found["mark"].dims == ("frame", "mark_index", "component")
    assert found["mark_loss"].dims == ("split", "mark_index")
    assert found["mark_loss"].attrs["long_name"] == (
        "mean loss per example, at each mark's own weights"
    )
    marks = StoredMarks(Store.open(store))
    np.testing.assert_array_equal(found["mark_loss"], marks.values("loss"))
    np.testing.assert_array_equal(found["mark"], [marks.places()])
    assert (found["mark_done"] == 1).all()


# Refined renders


def test_a_finished_render_says_that_it_took_a_new_look(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(rendered, tmp_path / "bowl")
    spec = folder / "bowl.yaml"
    content = yaml.safe_load(spec.read_text())
    content["marks"][0] |= {"label": "SGD"}
    spec.write_text(yaml.safe_dump(content))
    assert main.run(["render", str(spec), *SERIAL]) == 0
    out = capsys.readouterr().out
    assert "bowl.zarr: has the labels and the look of the spec now\n" in out
    assert "nothing to do" in out
    assert main.run(["render", str(spec), *SERIAL]) == 0
    assert "the look" not in capsys.readouterr().out


def test_plan_tells_of_marks_with_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = lay_out(tmp_path / "bowl")
    run_folder = tmp_path / "bowl/run"
    shutil.copy(run_folder / "epoch-1.safetensors", run_folder / "epoch-2.safetensors")
    assert main.run(["plan", str(spec)]) == 0
    assert "  remarks  marks[0]: epoch-1 and epoch-2 have the same" in capsys.readouterr().out


def test_a_refined_render_has_marks_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refine = {"scale": "linear", "audit": 50, "beyond": 0.1}
    changes = {
        "grid": {"width": 33, "height": 33, "tile": 17},
        "evaluate": {"loss": "mse", "refine": refine},
    }
    spec = lay_out(tmp_path / "bowl", **changes)
    store = tmp_path / "bowl/bowl.zarr"
    render, begun = StepRenderer.__call__, iter(range(5))

    def render_or_stop(self: StepRenderer, work: Any) -> TileFacts:
        if next(begun, None) is None:
            raise KeyboardInterrupt
        return render(self, work)

    with monkeypatch.context() as patch:
        patch.setattr(StepRenderer, "__call__", render_or_stop)
        assert main.run(["render", str(spec), *SERIAL, "--quiet"]) == 130
    assert "steps and 19 of 19 marks are done and kept" in capsys.readouterr().out
    assert main.run(["resume", str(store), *SERIAL, "--quiet"]) == 0
    good = content(store)
    points = np.random.default_rng(5).standard_normal((15, 6)).astype("f4").astype("f8")
    opened = Store.open(str(store), writable=True)
    found = StoredMarks(opened).values("loss")[0, :15]
    np.testing.assert_allclose(found, np.mean(points**2, axis=1), rtol=1e-6)
    # Marks put back on a finished store are all that is left.
    StoredMarks(opened).withdraw(MarkBlock(8, 16))
    assert not step_queue.finished(opened)
    assert read_status(opened).state == "stopped"
    assert main.run(["resume", str(store), *SERIAL, "--quiet"]) == 0
    assert content(store) == good
    assert read_status(opened).state == "done"


def test_the_queue_of_marks_waits_for_nothing(rendered: Path, store: Path) -> None:
    opened = Store.open(str(store), writable=True)
    StoredMarks(opened).withdraw(MarkBlock(0, 8))
    opened.withdraw(next(opened.grid.tiles()))
    queue = MarkQueue(opened, TileQueue(opened, Selection()))
    assert (queue.total, queue.done, queue.complete) == (9, 7, False)
    assert queue.points == 8 + 9
    work: list[Work] = queue.begin()
    assert work == [MarkBlock(0, 8), next(opened.grid.tiles())]
    assert queue.missing() == work
    assert queue.blocked(work) == 0

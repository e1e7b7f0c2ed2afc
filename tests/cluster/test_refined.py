"""A refined render on the command line: stopped, damaged, poisoned, and asked for more."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cluster.cli import main
from pipeline.geometry.grid import Step, Tile
from pipeline.refinement.records import Records
from pipeline.refinement.schedule import Schedule
from pipeline.store.store import Store
from pipeline.task import StepRenderer, TileFacts
from tests.cluster import landscape
from tests.cluster.hills import AUDIT, COMPOSE, content, evaluated_points

REFINE = {"tolerance": 0.01, "audit": 60, "beyond": 0.1}
SERIAL = ("--executor", "serial", "--quiet")


def lay_out(folder: Path, refine: dict[str, Any] | None = REFINE, **how: Any) -> Path:
    """The tiny landscape of 65 × 65 points in four tiles, to be refined."""
    spec = landscape.lay_out(folder, width=65, tile=how.pop("tile", 33), **how)
    ask(spec, refine)
    return spec


def ask(spec: Path, refine: dict[str, Any] | None) -> None:
    """Have `spec` ask for that."""
    content = yaml.safe_load(spec.read_text())
    loss = {"loss": content.get("evaluate", {}).get("loss", "cross_entropy")}
    content["evaluate"] = {**loss, "quantities": ["loss"]} | ({"refine": refine} if refine else {})
    spec.write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The landscape's folder, refined in one go by the serial executor."""
    folder = tmp_path_factory.mktemp("rendered")
    assert main.run(["render", str(lay_out(folder)), *SERIAL]) == 0
    return folder


@pytest.fixture
def folder(rendered: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(rendered, tmp_path / "landscape"))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopped after ten of its steps."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 10)
        assert main.run(["render", str(lay_out(folder)), *SERIAL]) == 130
    return folder


@pytest.fixture
def begun(stopped: Path, tmp_path: Path) -> Path:
    """A copy of its store."""
    return Path(shutil.copytree(stopped / "tiny.zarr", tmp_path / "begun.zarr"))


@pytest.fixture
def undisturbed(rendered: Path) -> dict[str, bytes]:
    return content(Store.open(str(rendered / "tiny.zarr")))


def mended(store: Path, undisturbed: dict[str, bytes]) -> None:
    """It is resumed to what an undisturbed render is, and sound."""
    assert main.run(["resume", str(store), *SERIAL]) == 0
    assert content(Store.open(str(store))) == undisturbed
    assert main.run(["verify", str(store)]) == 0


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int, late: bool = False) -> None:
    """Have ^C pressed while step number `count` is rendered, or when it is committed."""
    render = StepRenderer.__call__
    begun = iter(range(count))

    def render_or_stop(self: StepRenderer, step: Step) -> TileFacts:
        if next(begun, None) is not None:
            return render(self, step)
        if late:
            render(self, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(StepRenderer, "__call__", render_or_stop)


# Stopped


@pytest.mark.parametrize(
    "count",
    [
        4 * AUDIT,
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in (0, 5, 12, 4 * AUDIT + 1, 4 * COMPOSE, 4 * COMPOSE + 1)
        ),
    ],
)
def test_a_stopped_render_goes_on_to_the_same(
    rendered: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    count: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the first pass, while refining, between draw and audit, there, and while composing."""
    spec = lay_out(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, count, late=bool(count % 2))
        assert main.run(["render", str(spec), *SERIAL]) == 130
    done = count + count % 2
    assert f"stopped; {done} of " in capsys.readouterr().out
    assert main.run(["status", str(tmp_path / "tiny.zarr")]) == 0
    mended(tmp_path / "tiny.zarr", undisturbed)
    # Nothing was done twice.
    capsys.readouterr()
    assert main.run(["resume", str(tmp_path / "tiny.zarr")]) == 0
    assert "nothing to do" in capsys.readouterr().out


# Damaged

DAMAGES: dict[str, dict[str, tuple[str, Callable[[Path], None]]]] = {
    "composed": {
        "0/0/0": ("level/c/0/0/0: ", lambda store: flip(store / "level/c/0/0/0")),
        "0/0/1": (
            "predicted_error/c/0/0/0/0/1 is missing",
            lambda store: (store / "predicted_error/c/0/0/0/0/1").unlink(),
        ),
        "0/1/0": ("loss/c/0/0/1/0: ", lambda store: flip(store / "loss/c/0/0/1/0")),
        "0/1/1": ("level/c/0/1/1 is not what its steps", lambda store: lose(store, "1/0/1/1")),
    },
    "records": {
        "0/0/0": (
            f"pass {AUDIT}: evaluated/points: ",
            lambda store: flip(store / f"evaluated/points/c/{AUDIT}/0/0/0"),
        ),
        "0/0/1": (
            "pass 0: evaluated/points has 0 points, its commit ",
            lambda store: (store / "evaluated/points/c/0/0/0/1").unlink(),
        ),
        "0/1/0": (
            "pass 1: evaluated/values is missing",
            lambda store: (store / "evaluated/values/c/1/0/0/1/0").unlink(),
        ),
        "0/1/1": (
            "pass 1: evaluated/steps: ",
            lambda store: flip(store / "evaluated/steps/c/0/1/0/1/1"),
        ),
    },
}


def lose(store: Path, step: str) -> None:
    """Lose the commit of a step."""
    (store / "evaluated/steps/c/0" / step).unlink()


def flip(path: Path) -> None:
    """Flip one bit in the middle of a chunk."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_damage_is_found_named_and_mended(
    folder: Path, undisturbed: dict[str, bytes], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, expected = folder / "tiny.zarr", DAMAGES[kind]
    for _, harm in expected.values():
        harm(store)
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert main.run(["verify", str(store), "--dry-run"]) == 1
    head, *lines, _ = capsys.readouterr().out.splitlines()
    assert "damage in 4 tiles, of 4 finished tiles and " in head
    for (tile, (told, _)), line in zip(expected.items(), lines, strict=True):
        assert line.startswith(f"  tile {tile}: ")
        assert told in line
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before
    assert main.run(["verify", str(store), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert list(found["damaged"]) == list(expected)
    assert (found["put_back"], found["checked"]) == (True, 4)
    opened = Store.open(str(store))
    assert len(opened.pending()) == 4
    # Where the records are sound, tiles are composed again without evaluating anything.
    kept = Records(opened).committed()
    assert len(kept) == (4 * COMPOSE + 3 if kind == "composed" else 0)
    mended(store, undisturbed)


def test_damage_is_found_before_there_are_tiles(
    begun: Path, undisturbed: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    flip(begun / "evaluated/values/c/0/0/0/1/1")
    assert main.run(["verify", str(begun)]) == 1
    out = capsys.readouterr().out
    assert "damage in 1 tile, of 0 finished tiles and 10 steps" in out
    assert "tile 0/1/1: step 0/1/1, pass 0: evaluated/values" in out
    mended(begun, undisturbed)


def test_workers_that_read_damage_say_to_verify_and_nobody_is_blamed_for_good(
    begun: Path, undisturbed: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """Their steps fail; the tiles of these are none the worse for it."""
    flip(begun / "evaluated/values/c/0/0/0/1/1")
    with pytest.MonkeyPatch.context() as patch:
        impatient(patch)
        assert main.run(["resume", str(begun), *SERIAL]) == 3
    out, err = capsys.readouterr()
    assert "step 0/1/1, pass 0: evaluated/values" in out
    assert "Run lossatlas verify, then resume" in out
    assert "wait for what was given up" in err
    assert main.run(["verify", str(begun)]) == 1
    mended(begun, undisturbed)
    assert not list((begun / ".lossatlas" / "quarantine").iterdir())


def test_a_driver_that_reads_damage_says_to_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, store = lay_out(tmp_path), tmp_path / "tiny.zarr"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
        assert main.run(["render", str(spec), *SERIAL]) == 130
    flip(store / "evaluated/points/c/0/0/0/0")
    capsys.readouterr()
    assert main.run(["resume", str(store), *SERIAL]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lossatlas: step 0/0/0, pass 0: evaluated/points")
    assert "lossatlas verify, then resume" in line
    assert main.run(["verify", str(store)]) == 1


@pytest.mark.slow
def test_lost_notes_of_an_audit_are_made_again(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    """The sample, and how far predictions were off, before that is certified."""
    spec, store = lay_out(tmp_path), tmp_path / "tiny.zarr"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 4 * AUDIT + 2)
        assert main.run(["render", str(spec), *SERIAL]) == 130
    notes = store / ".lossatlas" / "refine"
    (notes / f"audit-{AUDIT}.json").write_text("[")
    errors = sorted((notes / f"audit-{AUDIT}").iterdir())
    assert len(errors) == 2
    errors[0].write_text("{}")
    errors[1].unlink()
    assert main.run(["resume", str(store), *SERIAL]) == 0
    found = content(Store.open(str(store)))
    kept = found.keys() - {str(note.relative_to(store)) for note in errors}
    assert {key: found[key] for key in kept} == {key: undisturbed[key] for key in kept}


# Poisoned


def impatient(patch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    from cluster.driver import session
    from cluster.scheduling.scheduler import Rules

    patch.setattr(session, "Rules", lambda: Rules(retry_first=0.01, write_first=0.01))


def test_a_step_that_always_fails_is_named_with_those_that_wait_for_it(
    tmp_path: Path, undisturbed: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    spec, store = lay_out(tmp_path), tmp_path / "tiny.zarr"
    render = StepRenderer._at

    def poisoned(self: StepRenderer, frame: int, y: np.ndarray, x: np.ndarray) -> Any:
        if ((y == 42) & (x == 50)).any():
            raise ValueError("no loss here")
        return render(self, frame, y, x)

    with pytest.MonkeyPatch.context() as patch:
        impatient(patch)
        patch.setattr(StepRenderer, "_at", poisoned)
        assert main.run(["render", str(spec), *SERIAL]) == 3
    out, err = capsys.readouterr()
    assert "7 of 28 steps done" in out
    assert "1 step quarantined:" in out
    assert "0/1/1, pass 1: ValueError: no loss here" in out
    assert "step 0/1/1, pass 1 given up after 3 tries" in err
    assert "20 steps more, as far as is known, wait for what was given up" in err
    assert main.run(["status", str(store)]) == 0
    assert "no loss here" in capsys.readouterr().out
    mended(store, undisturbed)
    assert main.run(["status", str(store)]) == 0
    assert "quarantined" not in capsys.readouterr().out


# Asked for more


class Jobs:
    """A cluster that takes every job and runs none."""

    address = "http://127.0.0.1:8265"

    def alive_on(self, url: str) -> None:
        return None

    def submit(self, *_: object, **__: object) -> str:
        return "job-1"


@pytest.mark.slow
def test_a_tighter_spec_goes_on_and_one_without_refine_ends_as_a_full_render(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, store = folder / "spec.yaml", Store.open(str(folder / "tiny.zarr"))
    counts = [evaluated_points(store)]
    for tolerance, adds in ((0.002, True), (0.01, False)):
        ask(spec, REFINE | {"tolerance": tolerance})
        assert main.run(["render", str(spec), "--executor", "serial"]) == 0
        assert ("nothing to do" in capsys.readouterr().out) != adds
        counts.append(evaluated_points(store))
        assert (counts[-1] > counts[-2]) == adds
    assert Schedule.read(store).certificates[-1].tolerance == {"loss": 0.002}  # type: ignore[union-attr]
    ask(spec, None)
    assert main.run(["render", str(spec), *SERIAL]) == 0
    assert evaluated_points(store) == 65 * 65
    full = lay_out(tmp_path / "full", None)
    assert main.run(["render", str(full), *SERIAL]) == 0
    numbers = landscape.numbers(tmp_path / "full" / "tiny.zarr")
    assert landscape.numbers(Path(store.url)) == numbers
    # And a full store has nothing to do where its spec asks to refine.
    ask(full, REFINE)
    capsys.readouterr()
    assert main.run(["render", str(full), "--executor", "serial"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert landscape.numbers(tmp_path / "full" / "tiny.zarr") == numbers


def test_what_was_begun_is_finished_where_less_is_asked_for_then(
    stopped: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And said; nothing is said to those who want the same, or come when it is finished."""
    spec = Path(shutil.copytree(stopped, tmp_path / "landscape"), "spec.yaml")
    told = "asks for less than was begun (predictions within 1 % of the colour range), which is"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 1)
        assert main.run(["render", str(spec), *SERIAL]) == 130
    assert told not in capsys.readouterr().err
    ask(spec, REFINE | {"tolerance": 0.05})
    assert main.run(["render", str(spec), *SERIAL]) == 0
    assert told in capsys.readouterr().err
    assert content(Store.open(str(spec.parent / "tiny.zarr"))) == undisturbed
    assert main.run(["render", str(spec), "--executor", "serial"]) == 0
    out, err = capsys.readouterr()
    assert "nothing to do" in out
    assert told not in err


def test_a_spec_that_comes_to_refine_is_told_that_its_store_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cluster.cli import find_job

    monkeypatch.setattr(find_job, "jobs_at", lambda _: Jobs())
    spec, store = landscape.lay_out(tmp_path), tmp_path / "tiny.zarr"
    assert main.run(["render", str(spec), *SERIAL, "--frames", "0:1"]) == 0
    Store.open(str(store), writable=True).withdraw(Tile(0, 1, 0))
    plain = yaml.safe_load(spec.read_text())
    spec.write_text(yaml.safe_dump(plain | {"evaluate": {"refine": REFINE}}))
    told = (
        "lossatlas: the spec asks to refine, and this store was begun with every point evaluated, "
        "which is finished all the same. To refine, render it to another store"
    )
    capsys.readouterr()
    assert main.run(["submit", str(spec), "--quiet"]) == 0
    assert told in capsys.readouterr().err.splitlines()
    for expected in ([told], []):  # nothing where it is finished
        assert main.run(["render", str(spec), *SERIAL]) == 0
        assert capsys.readouterr().err.splitlines() == expected


def test_some_frames_of_a_refined_render_are_refused_before_there_is_anything(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = lay_out(tmp_path / "new")
    for spec in (new, folder / "spec.yaml"):
        for option in (("--every", "2"), ("--frames", "0:1")):
            assert main.run(["render", str(spec), *SERIAL, *option]) == 2
            assert "with evaluate.refine, which audits all frames" in capsys.readouterr().err
    assert not (tmp_path / "new" / "tiny.zarr").exists()


def test_a_job_goes_by_what_its_spec_asks_for_now(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`submit` notes it in the store, which is all that the job needs; the job is driven here."""
    from cluster.cli import find_job

    monkeypatch.setattr(find_job, "jobs_at", lambda _: Jobs())
    spec, store = folder / "spec.yaml", Store.open(str(folder / "tiny.zarr"))
    assert main.run(["submit", str(spec)]) == 0
    assert "all 4 tiles are done; nothing to do" in capsys.readouterr().err
    for option in (("--every", "2"), ("--frames", "0:1")):
        assert main.run(["submit", str(spec), *option]) == 2
        assert main.run(["resume", store.url, "--address", Jobs.address, *option]) == 2
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 2
        assert all("with evaluate.refine, which audits all frames" in line for line in told)
    ask(spec, REFINE | {"tolerance": 0.002})
    assert main.run(["submit", str(spec), "--quiet"]) == 0
    assert capsys.readouterr().out == "job-1\n"
    assert len(store.pending()) == 4
    before = evaluated_points(store)
    assert main.run(["resume", store.url, *SERIAL]) == 0
    assert evaluated_points(store) > before
    assert store.pending() == []


# Disks


@pytest.mark.slow
def test_a_full_disk_stops_a_refinement_that_then_goes_on(
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    small_disk: Callable[[int], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec, disk = lay_out(tmp_path), small_disk(4096)
    store = disk / "tiny.zarr"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 6)
        assert main.run(["render", str(spec), "--store", str(store), *SERIAL]) == 130
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 48 * 1024))
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        impatient(patch)
        assert main.run(["resume", str(store), *SERIAL]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in last
    assert last.endswith("goes on")
    ballast.unlink()
    mended(store, undisturbed)
    # A disk that can only be read has nothing against a finished render.
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        assert main.run(["resume", str(store)]) == 0
        assert "nothing to do" in capsys.readouterr().out
        assert main.run(["verify", str(store), "--dry-run"]) == 0
        ask(spec, REFINE | {"tolerance": 0.002})
        assert main.run(["render", str(spec), "--store", str(store), *SERIAL]) == 2
        assert "cannot be written (Read-only file system)" in capsys.readouterr().err
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


# On Ray


def wait_for_steps(store: Path, count: int, seconds: float = 120.0) -> None:
    """Wait until `count` steps are committed."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        names = (path.name for path in (store / "evaluated/steps/c").rglob("*") if path.is_file())
        if sum(name.isdigit() for name in names) >= count:
            return
        time.sleep(0.05)
    raise TimeoutError(f"fewer than {count} steps after {seconds} s")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_workers_and_drivers_change_no_bit_of_a_refined_render(tmp_path: Path) -> None:
    """kill −9 of a worker and of the driver, in the passes of nine tiles and while composing."""
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    assert main.run(["render", str(lay_out(calm, tile=22, call_seconds=1e-9)), *SERIAL]) == 0
    lay_out(wild, tile=22, call_seconds=0.01)
    store = wild / "tiny.zarr"
    for wanted in (4, 16, 30, 47):
        arguments = ("render", "spec.yaml", "--workers", 2)
        driver = landscape.start(*arguments, folder=wild)
        try:
            wait_for_steps(store, wanted)
            os.kill(landscape.workers(driver.pid)[0], signal.SIGKILL)
            wait_for_steps(store, wanted + 2)
        finally:
            driver.kill()
            driver.communicate(timeout=30)
    driver = landscape.start("resume", "tiny.zarr", "--workers", 2, folder=wild)
    out, err = driver.communicate(timeout=300)
    assert driver.returncode == 0, out + err
    assert "quarantined" not in out
    assert content(Store.open(str(store))) == content(Store.open(str(calm / "tiny.zarr")))
    assert main.run(["verify", str(store)]) == 0

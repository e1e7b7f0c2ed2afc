"""A render whose store, checkpoints and data are objects behind a URL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import xarray
import yaml
from zarr.core.buffer import cpu
from zarr.core.sync import sync

from cluster.cli import main
from cluster.errors import ClusterError
from cluster.lease import Holder, Lease
from pipeline.geometry.grid import Extent, Grid, Tile
from pipeline.geometry.plane import Anchor, FrameFacts
from pipeline.store import keys
from pipeline.store.errors import TakenError
from pipeline.store.keys import RemoteStore
from pipeline.store.shared_note import SharedNote
from pipeline.store.store import Store
from pipeline.url import PlaceError, UnreachableError, check, reached
from tests.cluster import landscape
from tests.cluster.hills import AUDIT, COMPOSE, content
from tests.cluster.landscape import lay_out, numbers
from tests.cluster.objects import BUCKET, SECRET, ObjectServer, remote_numbers, serving
from tests.cluster.test_refined import SERIAL, stop_after
from tests.cluster.test_refined import lay_out as lay_out_refined

STORE = f"s3://{BUCKET}/runs/tiny.zarr"


@pytest.fixture(scope="module")
def objects() -> Iterator[ObjectServer]:
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same landscape, rendered locally in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = lay_out(folder, call_seconds=0.02)
    assert main.run(["render", str(spec), "--executor", "serial", "--quiet"]) == 0
    return folder


def lay_out_remotely(
    folder: Path, objects: ObjectServer, store: str, width: int = 12, call_seconds: float = 0.02
) -> Path:
    """The landscape in `folder`, with a spec that names everything by URL."""
    path = lay_out(folder, width=width, call_seconds=call_seconds)
    objects.upload(folder, "inputs")
    spec = yaml.safe_load(path.read_text())
    spec["plane"]["weights"] = [f"s3://{BUCKET}/inputs/{name}.safetensors" for name in "abc"]
    spec["data"]["source"] = f"s3://{BUCKET}/inputs/data.npz"
    spec["store"] = store
    path.write_text(yaml.safe_dump(spec))
    return path


def test_a_render_to_objects_is_the_local_one_and_can_be_mended(
    objects: ObjectServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = lay_out(tmp_path / "local", width=6)
    assert main.run(["render", str(spec), "--executor", "serial"]) == 0
    local = numbers(tmp_path / "local/tiny.zarr")
    spec = lay_out_remotely(tmp_path, objects, STORE, width=6, call_seconds=0)
    assert main.run(["render", str(spec), "--executor", "serial"]) == 0
    assert remote_numbers(objects, "runs/tiny.zarr") == local
    assert list(objects.objects("runs/tiny.zarr/.lossatlas")) == [
        "runs/tiny.zarr/.lossatlas/report.json"
    ]
    assert main.run(["status", STORE]) == 0
    client = objects.client()
    key = "runs/tiny.zarr/loss/c/0/0/0/1"
    client.put_object(Bucket=BUCKET, Key=key, Body=b"damaged")
    client.delete_object(Bucket=BUCKET, Key="runs/tiny.zarr/loss/c/0/0/1/1")
    assert main.run(["verify", STORE]) == 1
    assert main.run(["resume", STORE, "--executor", "serial"]) == 0
    assert remote_numbers(objects, "runs/tiny.zarr") == local
    out, err = capsys.readouterr()
    assert "100 %  4/4 tiles" in out
    assert "2 of 4 finished tiles damaged" in out
    assert "2 of 4 tiles are done" in err
    with xarray.open_zarr(STORE) as dataset:
        assert dataset.loss.shape == (1, 1, 6, 6)
        assert not dataset.loss.isnull().any()
    written = [*objects.objects().values(), out.encode(), err.encode()]
    assert not any(SECRET.encode() in content for content in written)


def test_a_note_in_a_bucket_is_changed_by_who_knows_it(objects: ObjectServer) -> None:
    """The server compares; nothing is read back, and nobody waits."""
    frame = FrameFacts(Extent(-1, 1, -1, 1), (Anchor("w0", 0, 0, 0),), None)
    url = f"s3://{BUCKET}/noted.zarr"
    store = Store.create(url, Grid(2, 2, 1), ["train"], ["loss"], [frame], {})
    one, other = SharedNote(store, "lease.json"), SharedNote(store, "lease.json")
    nothing = other.read()
    first = one.change(one.read(), {"id": "one"})
    assert first is not None
    assert other.change(nothing, {"id": "other"}) is None
    second = one.change(first, {"id": "one", "beat": 2})
    assert second is not None
    assert other.change(first, {"id": "other"}) is None
    assert one.read().note == {"id": "one", "beat": 2}
    assert other.change(other.read(), {"id": "other"}) is not None
    assert one.change(second, {"id": "one"}) is None
    assert store.read_note("lease.json") == {"id": "other"}


def test_a_place_that_holds_something_else_is_left_alone(
    objects: ObjectServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("of the user")
    objects.upload(tmp_path / "own", "own")
    before = objects.objects("own")
    spec = lay_out(tmp_path)
    place = f"s3://{BUCKET}/own"
    assert main.run(["render", str(spec), "--executor", "serial", "--store", place]) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert objects.objects("own") == before
    assert main.run(["status", f"s3://{BUCKET}/none.zarr"]) == 2
    assert "no such store" in capsys.readouterr().err


def test_credentials_in_a_url_are_refused_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = lay_out(tmp_path)
    content = yaml.safe_load(spec.read_text())
    for place in (f"s3://key:{SECRET}@bucket/x.zarr", f"s3://bucket/x.zarr?secret={SECRET}"):
        assert main.run(["status", place]) == 2
        spec.write_text(yaml.safe_dump({**content, "store": place}))
        assert main.run(["plan", str(spec)]) == 2
        out, err = capsys.readouterr()
        assert SECRET not in out + err
        assert err.count("s3://bucket/x.zarr was given with credentials") == 2
    assert check("s3://bucket/x.zarr") == "s3://bucket/x.zarr"
    with pytest.raises(PlaceError):
        check("s3://key@bucket/x.zarr")


def test_every_librarys_failure_is_one_error() -> None:
    class EndpointConnectionError(Exception): ...

    told = r"s3://b cannot be reached \(no route\)"
    with pytest.raises(UnreachableError, match=told) as caught, reached("s3://b"):
        raise EndpointConnectionError("no\nroute")
    assert isinstance(caught.value, OSError)
    with pytest.raises(ValueError, match="checksum"), reached("s3://b"):
        raise ValueError("checksum")
    with pytest.raises(FileNotFoundError), reached("s3://b"):
        raise FileNotFoundError("x")
    with pytest.raises(PermissionError), reached("/local"):
        raise PermissionError("x")


@pytest.mark.parametrize("place", ["nowhere://x/y.zarr", "http://127.0.0.1:9/y.zarr"])
def test_a_url_that_leads_nowhere_is_one_line(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["status", place]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "y.zarr" in err


def test_a_listing_shows_what_others_did_meanwhile(objects: ObjectServer) -> None:
    frame = FrameFacts(Extent(0, 1, 0, 1), (Anchor("θ", 0, 0, 0),), None)
    place = f"s3://{BUCKET}/runs/seen.zarr"
    store = Store.create(place, Grid(2, 1, 1), ["train"], ["loss"], [frame], {})
    assert store.committed() == set()
    key = "runs/seen.zarr/done/c/0/0/"
    for column in "01":
        objects.client().put_object(Bucket=BUCKET, Key=key + column, Body=b"1")
    assert store.pending() == []
    objects.client().delete_object(Bucket=BUCKET, Key=key + "0")
    assert store.pending() == [Tile(0, 0, 0)]


def test_a_store_that_never_answers_is_not_waited_for(
    objects: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = FrameFacts(Extent(0, 1, 0, 1), (Anchor("θ", 0, 0, 0),), None)
    place = f"s3://{BUCKET}/runs/silent.zarr"
    store = Store.create(place, Grid(2, 1, 1), ["train"], ["loss"], [frame], {})
    monkeypatch.setattr(keys, "ANSWER_SECONDS", 0.5)
    told = r"silent\.zarr cannot be reached \(no answer within 0\.5 s\)"
    with objects.silent():
        with pytest.raises(UnreachableError, match=told):
            store.write_note("x.json", {})
        with pytest.raises(UnreachableError, match=told):
            store.read_note("x.json")
    monkeypatch.undo()
    store.write_note("x.json", {"now": 1})
    assert store.read_note("x.json") == {"now": 1}


@pytest.mark.slow
def test_a_refined_render_on_objects_is_the_local_one(
    objects: ObjectServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped, damaged and mended there."""
    spec = lay_out_refined(tmp_path, tile=65)
    assert main.run(["render", str(spec), *SERIAL]) == 0
    place, key = f"s3://{BUCKET}/runs/refined.zarr", "runs/refined.zarr/"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
        assert main.run(["render", str(spec), "--store", place, *SERIAL]) == 130
    damaged = f"{key}evaluated/values/c/0/0/0/0/0"
    objects.client().put_object(Bucket=BUCKET, Key=damaged, Body=b"no record")
    capsys.readouterr()
    assert main.run(["verify", place]) == 1
    assert "step 0/0/0, pass 0: evaluated/values" in capsys.readouterr().out
    assert main.run(["resume", place, *SERIAL]) == 0
    assert main.run(["verify", place]) == 0
    _require_local(objects, key, tmp_path / "tiny.zarr")


@pytest.mark.slow
def test_drivers_killed_while_refining_on_objects_lose_nothing(
    objects: ObjectServer, tmp_path: Path
) -> None:
    """kill −9 in the middle of a pass that refines, and of the audit, of nine tiles."""
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    assert (
        main.run(["render", str(lay_out_refined(calm, tile=22, call_seconds=1e-9)), *SERIAL]) == 0
    )
    lay_out_refined(wild, tile=22, call_seconds=0.01)
    place, key = f"s3://{BUCKET}/runs/torn.zarr", "runs/torn.zarr/"
    commits = f"{key}evaluated/steps/c/"
    for wanted in (9 * 2 + 4, 9 * AUDIT + 4):
        driver = _start("render", "spec.yaml", "--store", place, folder=wild)
        try:
            _wait_for_objects(objects, commits, wanted)
        finally:
            driver.kill()
            _, err = driver.communicate(timeout=30)
        assert driver.returncode == -signal.SIGKILL, err
    then = objects.modified(commits)
    assert len(then) < 9 * COMPOSE
    assert main.run(["resume", place, *SERIAL]) == 0
    assert main.run(["verify", place]) == 0
    _require_local(objects, key, calm / "tiny.zarr")
    # What was committed is not done again.
    now = objects.modified(commits)
    assert {name: now[name] for name in then} == then


def _require_local(objects: ObjectServer, key: str, store: Path) -> None:
    """What is refined in the bucket is, to the bit, what is refined in a local store."""
    found = {name.removeprefix(key): data for name, data in objects.objects(key).items()}
    local = content(Store.open(str(store)))
    for name in ("counts", "schedule"):
        del local[name]
    assert {name.split("/")[0] for name in local} >= {"loss", "level", "predicted_error"}
    assert {name: found[name] for name in local} == local


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_drivers_and_workers_lose_nothing_on_objects(
    objects: ObjectServer, undisturbed: Path, tmp_path: Path
) -> None:
    place = f"s3://{BUCKET}/runs/killed.zarr"
    lay_out_remotely(tmp_path, objects, place)
    arguments = ("render", "spec.yaml", "--workers", 2)
    for wanted in (4, 10):
        driver = landscape.start(*arguments, folder=tmp_path)
        try:
            before = _wait_for_objects(objects, "runs/killed.zarr/done/c/", wanted)
            os.kill(landscape.workers(driver.pid)[0], signal.SIGKILL)
            time.sleep(0.5)
        finally:
            driver.kill()
            _, err = driver.communicate(timeout=30)
        assert SECRET not in err
    then = objects.modified("runs/killed.zarr/done/c/")
    assert then.keys() >= before
    assert main.run(["resume", place, "--executor", "serial"]) == 0
    assert remote_numbers(objects, "runs/killed.zarr") == numbers(undisturbed / "tiny.zarr")
    now = objects.modified("runs/killed.zarr/done/c/")
    assert {key: now[key] for key in then} == then


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_store_that_goes_away_is_waited_for_a_while(
    objects: ObjectServer, undisturbed: Path, tmp_path: Path
) -> None:
    place = f"s3://{BUCKET}/runs/away.zarr"
    lay_out(tmp_path, call_seconds=0.1)
    driver = _start("render", "spec.yaml", "--store", place, folder=tmp_path)
    _wait_for_objects(objects, "runs/away.zarr/done/c/", 2)
    objects.door.close()
    time.sleep(20)  # longer than botocore tries again by itself
    objects.door.open()
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 0, err
    assert "16 tiles done" in out
    assert "trying again in" in err
    assert remote_numbers(objects, "runs/away.zarr") == numbers(undisturbed / "tiny.zarr")
    # Away for good: it stops with one line, and goes on once there is a store again.
    place = f"s3://{BUCKET}/runs/gone.zarr"
    driver = _start("render", "spec.yaml", "--store", place, folder=tmp_path)
    _wait_for_objects(objects, "runs/gone.zarr/done/c/", 2)
    objects.door.close()
    out, err = driver.communicate(timeout=400)
    objects.door.open()
    assert driver.returncode == 2, out + err
    assert "Traceback" not in out + err
    assert SECRET not in out + err
    assert err.splitlines()[-1].startswith("lossatlas: the store cannot be read or written")
    assert f"lossatlas resume {place} goes on" in err
    before = objects.modified("runs/gone.zarr/done/c/")
    assert 2 <= len(before) < 16
    assert main.run(["resume", place, "--executor", "serial"]) == 0
    assert remote_numbers(objects, "runs/gone.zarr") == numbers(undisturbed / "tiny.zarr")
    now = objects.modified("runs/gone.zarr/done/c/")
    assert {key: now[key] for key in before} == before


@pytest.mark.slow
def test_a_second_driver_on_objects_is_refused_until_the_first_is_dead(
    objects: ObjectServer, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"s3://{BUCKET}/runs/two.zarr"
    lay_out(tmp_path, call_seconds=0.2)
    first = _start("render", "spec.yaml", "--store", place, folder=tmp_path)
    try:
        _wait_for_objects(objects, "runs/two.zarr/done/c/", 1)
        assert main.run(["resume", place, "--executor", "serial"]) == 2
        assert f"is being rendered by process {first.pid} on" in capsys.readouterr().err
    finally:
        first.kill()
        first.communicate()
    assert main.run(["resume", place, "--executor", "serial"]) == 0
    assert remote_numbers(objects, "runs/two.zarr") == numbers(undisturbed / "tiny.zarr")


def _start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return landscape.start(*arguments, "--executor", "serial", folder=folder)


def _wait_for_objects(objects: ObjectServer, prefix: str, count: int) -> set[str]:
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        found = objects.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())
        if len(found) >= count:
            return {item["Key"] for item in found}
        time.sleep(0.2)
    raise TimeoutError(f"fewer than {count} tiles")


def test_commits_in_a_bucket_are_listed_folder_by_folder(
    objects: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rows 1 and 10, and with dates read as botocore reads them."""
    monkeypatch.setattr("pipeline.store.keys._FOLDER_TILES", 1)
    grid = Grid(3, 12, 1, frames=2)
    frame = FrameFacts(Extent(-1, 1, -1, 1), (Anchor("w0", 0, 0, 0),), None)
    url = f"s3://{BUCKET}/runs/listed.zarr"
    store = Store.create(url, grid, ["train"], ["loss"], [frame, frame], {})
    tiles = {Tile(0, 1, 0), Tile(0, 10, 2), Tile(1, 11, 1)}
    for tile in tiles:
        objects.client().put_object(
            Bucket=BUCKET, Key=f"{url.removeprefix(f's3://{BUCKET}/')}/done/c/{tile}", Body=b"x"
        )
    assert store.committed() == tiles
    assert len(store.pending()) == 72 - 3
    now = datetime.now(UTC)
    place = f"{BUCKET}/runs/listed.zarr/done/c/0/1"
    for item in sync(store.group.store.fs._ls(place, detail=True)):
        assert abs(now - item["LastModified"]) < timedelta(minutes=5)


@pytest.mark.filterwarnings("ignore:.*onsolidated")  # threads share what is ignored
def test_creators_in_a_bucket_get_it_one_at_a_time_or_not_at_all(objects: ObjectServer) -> None:
    """There is no way to move a store there at once, so two of them may give way to each other."""
    frame = FrameFacts(Extent(-1, 1, -1, 1), (Anchor("w0", 0, 0, 0),), None)
    at_once = threading.Barrier(2)

    def create(url: str, tile: int) -> int:
        at_once.wait()
        try:
            store = Store.create(url, Grid(6, 6, tile), ["train"], ["loss"], [frame], {})
        except TakenError:
            return 0
        return store.grid.tile

    with ThreadPoolExecutor(2) as threads:
        for number in range(4):
            url = f"s3://{BUCKET}/raced/{number}.zarr"
            found = sorted(threads.map(create, [url, url], [2, 3]))
            assert found[0] == 0, "two creators believe that a store is theirs"
            if found[1] == 0:
                assert not Store.exists(url)
                Store.create(url, Grid(6, 6, 2), ["train"], ["loss"], [frame], {})
            store = Store.open(url)
            assert store.grid.tile == found[1] or found[1] == 0
            assert len(store.pending()) == store.grid.tile_count


@pytest.mark.parametrize("knows_conditions", [True, False])
def test_of_several_takers_of_a_lease_in_a_bucket_one_has_it(
    objects: ObjectServer, monkeypatch: pytest.MonkeyPatch, knows_conditions: bool
) -> None:
    """They all find it free, and their writes take 300 ms; then they renew it and give it free."""
    url = f"s3://{BUCKET}/raced/lease-{knows_conditions}.zarr"
    frame = FrameFacts(Extent(-1, 1, -1, 1), (Anchor("w0", 0, 0, 0),), None)
    store = Store.create(url, Grid(6, 6, 3), ["train"], ["loss"], [frame], {})
    takers = [Lease(Store.open(url, writable=True), workers=1) for _ in range(3)]
    read, free, write = threading.Barrier(len(takers)), Lease._wait_until_free, RemoteStore.set_if

    async def slow(self: RemoteStore, key: str, content: bytes, tag: str | None) -> str | None:
        await asyncio.sleep(0.3)
        if knows_conditions:
            return await write(self, key, content, tag)
        await self.set(key, cpu.Buffer.from_bytes(content))
        return (await self.get_tagged(key))[1]

    def together(self: Lease) -> object:
        found = free(self)
        read.wait(30)
        return found

    def take(lease: Lease) -> bool:
        with contextlib.suppress(ClusterError):
            lease.take()
            return True
        return False

    monkeypatch.setattr(RemoteStore, "set_if", slow)
    monkeypatch.setattr(Lease, "_wait_until_free", together)
    with ThreadPoolExecutor(len(takers)) as threads:
        took = list(threads.map(take, takers))
    assert sum(took) == 1
    winner = takers[took.index(True)]
    before = Holder.read(store)
    winner._renew()
    assert Holder.read(store) != before
    assert not winner.lost
    for lease in takers:
        lease.release()
    assert Holder.read(store) is None


def test_a_lease_in_a_bucket_is_not_written_over(objects: ObjectServer) -> None:
    url = f"s3://{BUCKET}/raced/slept.zarr"
    frame = FrameFacts(Extent(-1, 1, -1, 1), (Anchor("w0", 0, 0, 0),), None)
    store = Store.create(url, Grid(6, 6, 3), ["train"], ["loss"], [frame], {})
    slept = Lease(store, workers=1, beat_seconds=1e9)
    slept.take()
    store.delete_note("lease.json")
    slept._renew()
    slept._renew()
    assert not slept.lost  # a note that is gone is no claim
    store.delete_note("lease.json")
    other = Lease(store, workers=1)
    other.take()
    slept._renew()
    assert slept.lost
    slept.release()
    assert Holder.read(store) is not None
    other.release()
    assert Holder.read(store) is None

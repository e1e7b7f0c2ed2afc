"""Pictures painted on a cluster: the same bytes, whoever paints and whoever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import ClusterError
from cluster.workers import local, spread
from pipeline.errors import LossatlasError
from renders.poster import export_poster
from renders.spread import Spread
from tests.cluster.landscape import lossatlas
from tests.renders.films import film_store


@pytest.fixture
def on_cluster(ray: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spread]:
    class Joined:
        def __enter__(self) -> Any:
            return ray

        def __exit__(self, *_: object) -> None: ...

    # The tests' own process has joined that Ray already, and may do so only once.
    monkeypatch.setattr(local, "joined", lambda address: Joined())
    with spread.over_cluster("tests:1") as found:
        yield found


@pytest.mark.ray
@pytest.mark.slow
def test_a_poster_painted_on_a_cluster_is_the_same_to_the_byte(
    on_cluster: Spread, tmp_path: Path
) -> None:
    url = film_store(tmp_path)
    for ending in ("png", "tif"):
        here, there = tmp_path / f"here.{ending}", tmp_path / f"there.{ending}"
        export_poster(url, here, width=1500)
        export_poster(url, there, width=1500, spread=on_cluster)
        assert there.read_bytes() == here.read_bytes()


@pytest.mark.ray
def test_results_come_in_order_though_a_painter_is_killed(
    on_cluster: Spread, tmp_path: Path
) -> None:
    def square(k: int) -> int:
        if k == 21 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return k * k

    assert list(on_cluster(square, range(60))) == [k * k for k in range(60)]
    assert (tmp_path / "died").exists()


@pytest.mark.ray
def test_what_a_painter_raises_is_raised_here(on_cluster: Spread) -> None:
    def fail(k: int) -> int:
        raise LossatlasError(f"no room for {k}")

    with pytest.raises(LossatlasError, match="no room for 0"):
        list(on_cluster(fail, range(3)))


def test_another_lossatlas_is_refused() -> None:
    from dataclasses import replace

    from cluster.workers.packages import running
    from cluster.workers.workers import check_same

    ours = running("renders")
    with pytest.raises(ClusterError, match="runs another renders"):
        check_same(replace(ours, digest="0" * 16, folder="/elsewhere"), ours)


@pytest.mark.ray
@pytest.mark.slow
def test_the_commands_paint_on_a_cluster(ray: Any, tmp_path: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    film_store(tmp_path)
    there = ["--address", address]
    for kind, name in (("poster", "a.png"), ("map", "map")):
        small = ["--width", "600"]
        done = lossatlas("export", kind, "film.zarr", name, *small, *there, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        done = lossatlas("export", kind, "film.zarr", f"here-{name}", *small, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "here-a.png").read_bytes()
    tiles = sorted((tmp_path / "map").rglob("*.jpg"))
    assert len(tiles) > 10
    for tile in tiles:
        twin = tmp_path / "here-map" / tile.relative_to(tmp_path / "map")
        assert tile.read_bytes() == twin.read_bytes()

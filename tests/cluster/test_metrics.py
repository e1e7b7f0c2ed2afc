"""What Prometheus reads of a render, on a real Ray; and that the dashboard asks for just that."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cluster.monitor.metrics import Metrics
from cluster.scheduling import event_loop
from cluster.scheduling.scheduler import Rules, Scheduler
from cluster.workers.workers import Device, RayWorkers
from pipeline.geometry.grid import Tile
from tests.cluster import renderers
from tests.cluster.watcher import Watcher

pytestmark = pytest.mark.ray
DASHBOARD = Path(__file__).parents[2] / "examples" / "cluster" / "grafana.json"
RUN = "seen-by-prometheus"
NAME = re.compile(r"ray_lossatlas_\w+")


class Watched(Watcher):
    """As `cluster.driver.session.Session` passes on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self._metrics = Metrics(RUN)

    def rendered(self, tile: Tile, done: event_loop.Done) -> None:
        super().rendered(tile, done)
        self._metrics.rendered(tile, done)

    def ticked(self, scheduler: Any) -> None:
        self._metrics.ticked(scheduler)


def scrape(port: int) -> dict[str, tuple[float, set[str]]]:
    """The samples of our run: name (with its le, if any) to value and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for line in text.splitlines():
        sample = re.fullmatch(r"(ray_lossatlas_\w+)\{(.*)\} (\S+)", line)
        if sample and f'run="{RUN}"' in line:
            labels = dict(re.findall(r'(\w+)="([^"]*)"', sample[2]))
            bound = labels.pop("le", "")
            name = f"{sample[1]}<={bound}" if bound else sample[1]
            found[name] = (float(sample[3]), set(labels))
    return found


@pytest.fixture(scope="module")
def samples(
    ray: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[float, set[str]]]:
    """A render of twelve tiles, one poisonous, one that kills its worker once."""
    folder = tmp_path_factory.mktemp("seen")
    (folder / "3.raise").write_text("99")
    (folder / "5.die").write_text("1")
    ray.cloudpickle.register_pickle_by_value(renderers)
    tiles = [Tile(0, 0, column) for column in range(12)]
    rules = Rules(retry_first=0.05, retry_longest=0.1)
    workers = RayWorkers(
        ray, renderers.FaultyRenderer, {"folder": str(folder)}, "", Device("cpu", threads=None)
    )
    watched, scheduler = Watched(), Scheduler(tiles, 2, rules)
    try:
        event_loop.run(scheduler, workers, watched, lambda: False)
        port = ray.nodes()[0]["MetricsExportPort"]
        limit = time.monotonic() + 40
        while time.monotonic() < limit:
            found = scrape(port)
            done = found.get("ray_lossatlas_tiles_done_total", (0,))[0]
            left = found.get("ray_lossatlas_tiles_left", (1,))[0]
            # Ray passes numbers on every ten seconds, one after another: what was given up last may
            # come in the next look, or a moment after the rest of this one.
            if left == 0 and done == len(watched.tiles) == 11:
                time.sleep(1.0)
                found = scrape(port)
                assert found["ray_lossatlas_retries_total"][0] == scheduler.retries
                return found
            time.sleep(0.5)
    finally:
        workers.close()
    raise TimeoutError(f"after 40 s Prometheus would still read {found}")


def test_the_values_are_the_renders(samples: dict[str, tuple[float, set[str]]]) -> None:
    values = {name: value for name, (value, _) in samples.items() if "<=" not in name}
    assert values["ray_lossatlas_tiles_done_total"] == 11
    assert values["ray_lossatlas_points_done_total"] == 44
    # Two of the poison; that of the dead worker is none where another one raced it already.
    assert 2 <= values["ray_lossatlas_retries_total"] <= 3
    assert values["ray_lossatlas_workers_lost_total"] == 1
    assert values["ray_lossatlas_tiles_quarantined"] == 1
    assert values["ray_lossatlas_tiles_left"] == 0
    assert values["ray_lossatlas_tile_seconds_count"] == 11
    assert values["ray_lossatlas_store_write_seconds_count"] == 11
    assert samples["ray_lossatlas_store_write_seconds_bucket<=0.001"][0] == 11
    assert samples["ray_lossatlas_tile_seconds_bucket<=0.01"][0] == 11


def test_a_label_is_never_a_tile(samples: dict[str, tuple[float, set[str]]]) -> None:
    rays = {"Component", "NodeAddress", "SessionName", "Version", "WorkerId"}
    for _, labels in samples.values():
        ours = {name for name in labels - rays if not name.startswith("otel_")}
        assert ours == {"run"}


def test_the_dashboard_asks_for_what_there_is(
    samples: dict[str, tuple[float, set[str]]],
) -> None:
    board = json.loads(DASHBOARD.read_text())
    queries = [t["expr"] for panel in board["panels"] for t in panel.get("targets", ())]
    queries += [v["definition"] for v in board["templating"]["list"] if v["type"] == "query"]
    asked = {name for query in queries for name in NAME.findall(query)}
    exported = {name.partition("<=")[0] for name in samples}
    assert asked <= exported
    # And for all of it: Ray's means (_sum over _count) are of buckets' middles, so none of those.
    assert {n for n in exported if not n.endswith(("_sum", "_count"))} == asked
    assert all('{run=~"$run"}' in query for query in queries if "label_values" not in query)


def test_every_panel_says_what_it_shows() -> None:
    board = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24

"""A render of 2,025 tiles in a storm: somebody is killed every few seconds until it is finished."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from cluster.cli import main
from tests.cluster import landscape
from tests.cluster.clusters import Nodes, cluster
from tests.cluster.objects import BUCKET, ObjectServer, remote_numbers, serving

EDGE = 45
TILES = EDGE * EDGE
SEED = 4
CALM_TILES = 50  # between two kills at least
VICTIMS = {"worker": 5, "node": 3, "driver": 1}


class Place(Protocol):
    """Where the store of a soak is, and how to look into it without lossatlas."""

    url: str
    environment: dict[str, str]

    def commits(self) -> dict[str, object]:
        """When each tile was committed, by the commit's key."""

    def numbers(self) -> dict[str, bytes]:
        """The bytes of every chunk that a render determines, by key."""


class Here:
    def __init__(self, folder: Path) -> None:
        self.url = str(folder / "soak.zarr")
        self.environment: dict[str, str] = {}

    def commits(self) -> dict[str, object]:
        root = Path(self.url) / "done" / "c"
        return {
            name: (root / name).stat().st_mtime_ns for name in landscape.commits(Path(self.url))
        }

    def numbers(self) -> dict[str, bytes]:
        return landscape.numbers(Path(self.url))


class Objects:
    url = f"s3://{BUCKET}/soak.zarr"

    def __init__(self, server: ObjectServer) -> None:
        self._server = server
        self.environment = server.environment

    def commits(self) -> dict[str, object]:
        return self._server.modified("soak.zarr/done/c/")

    def numbers(self) -> dict[str, bytes]:
        return remote_numbers(self._server, "soak.zarr")


@contextmanager
def somewhere(where: str, folder: Path) -> Iterator[Place]:
    if where == "here":
        yield Here(folder)
        return
    with serving() as server:
        yield Objects(server)


class Storm:
    """Keeps a driver and three nodes going, and kills at random: seeded, but never twice alike,
    for it cannot know what a process is at just then."""

    def __init__(self, nodes: Nodes, place: Place, folder: Path) -> None:
        self._nodes, self._place, self._folder = nodes, place, folder
        self._random = random.Random(SEED)
        self._up = [nodes.add() for _ in range(3)]
        self.killed: Counter[str] = Counter()
        self.committed_at_deaths: list[dict[str, object]] = []
        self.words: list[str] = []
        self.driver = self._start("render", "spec.yaml", "--store", place.url)

    def blow(self, until: float) -> str:
        """Kill until the driver ends by itself with success; returns what it said at last."""
        calm = 1
        while True:
            due = time.monotonic() + self._random.uniform(3.0, 8.0)
            while time.monotonic() < due or len(self._place.commits()) < calm:
                if self.driver.poll() is not None:
                    out, err = self.driver.communicate()
                    assert self.driver.returncode == 0, err
                    self.words += err.splitlines()
                    return out
                assert time.monotonic() < until, f"{calm} of {TILES} tiles; {self.killed}"
                time.sleep(0.5)
            self._kill(self._random.choices(list(VICTIMS), list(VICTIMS.values()))[0])
            # On a busy machine, so many kills as to let nobody come up would show nothing.
            calm = len(self._place.commits()) + CALM_TILES

    def _kill(self, victim: str) -> None:
        if victim == "worker":
            workers = self._nodes.workers()
            if not workers:
                return
            os.kill(self._random.choice(workers), signal.SIGKILL)
        elif victim == "node":
            node = self._up.pop(self._random.randrange(3))
            self._nodes.kill(node)
            self._up.append(self._nodes.add())
        else:
            self.end()
            self.committed_at_deaths.append(self._place.commits())
            self.driver = self._start("resume", self._place.url)
        self.killed[victim] += 1

    def end(self) -> None:
        self.driver.kill()
        self.words += self.driver.communicate(timeout=30)[1].splitlines()

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            landscape.command(*arguments, "--address", self._nodes.address),
            cwd=self._folder,
            env=self._nodes.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("where", ["here", "objects"])
def test_a_render_in_a_storm_of_kills_is_the_undisturbed_one(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    spec = landscape.lay_out(calm, width=EDGE, tile=1, call_seconds=1e-9)
    assert main.run(["render", str(spec), "--executor", "serial", "--quiet"]) == 0
    landscape.lay_out(rough, width=EDGE, tile=1, call_seconds=0.05)
    began = time.monotonic()
    with somewhere(where, tmp_path) as place, cluster(**place.environment) as nodes:
        storm = Storm(nodes, place, rough)
        try:
            out = storm.blow(until=began + 2400)
        finally:
            storm.end()
        seconds = time.monotonic() - began
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        commits = place.commits()
        assert place.numbers() == landscape.numbers(calm / "tiny.zarr")
        assert main.run(["verify", place.url]) == 0
    # Nothing lost, nothing done again that a driver had left done, nothing counted twice.
    assert len(commits) == TILES
    for then in storm.committed_at_deaths:
        if len(then) < 0.9 * TILES:  # later, the last tiles are raced by two workers
            assert {key: commits[key] for key in then} == then
    # "all … are done" where the driver before was killed between the last commit and its last word.
    assert re.search(f"{TILES:,} tiles (are )?done", out)
    assert not any("Traceback" in line for line in storm.words)
    with capsys.disabled():
        print(f"\n{where}: {TILES} tiles in {seconds:.0f} s, killed {dict(storm.killed)}")

"""Renderers for tests: the interface of `pipeline.task.TileRenderer`, with faults built in.

Travels to workers by value: tests are on no worker's path.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class FaultyRenderer:
    """Commits tiles by touching files in `inputs["folder"]`, and does what the faults say.

    Faults are files there: `<column>.die`, `.raise`, `.full`, `.hang`, `.changed`, holding how
    many times.
    """

    def __init__(
        self, inputs: Any, store_url: str, device: str, worker: int, threads: int | None = 1
    ) -> None:
        self._folder = Path(inputs["folder"])
        self._worker = worker
        self._seconds = inputs.get("seconds", 0.0)
        if "refuse" in inputs:
            raise inputs["refuse"]
        (self._folder / f"worker-{worker}").write_text(str(os.getpid()))

    def __call__(self, tile: Any) -> SimpleNamespace:
        time.sleep(self._seconds)
        if self._due(tile, "die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._due(tile, "raise"):
            raise ValueError(f"no loss for {tile}")
        if self._due(tile, "changed"):
            from pipeline.errors import InputsChangedError

            raise InputsChangedError(f"frame {tile.frame} was replaced")
        if self._due(tile, "full"):
            raise OSError(28, "No space left on device", str(self._folder))
        if self._due(tile, "hang"):
            time.sleep(600)
        with open(self._folder / f"done-{tile.column}", "a") as file:
            file.write(f"{self._worker}\n")
        return SimpleNamespace(points=4, seconds=0.01, write_seconds=0.001)

    def _due(self, tile: Any, fault: str) -> bool:
        path = self._folder / f"{tile.column}.{fault}"
        try:
            left = int(path.read_text())
        except FileNotFoundError:
            return False
        # At once, since another worker may be trying the same tile.
        counted = path.with_suffix(f".{self._worker}")
        counted.write_text(str(left - 1))
        counted.replace(path)
        return left > 0

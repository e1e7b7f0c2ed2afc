"""Serial rendering: the driver is its only worker. For tiny grids and for debugging."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from cluster.scheduling.events import Done, Event, Failed, Joined, Unwritable
from cluster.workers.workers import describe
from pipeline.errors import InputsChangedError
from pipeline.geometry.grid import Work


class SerialWorkers:
    """One worker in this process; see `event_loop.Workers`. `wait` evaluates the tile."""

    def __init__(
        self, renderer: Callable[..., Any], inputs: Any, store_url: str, device: str
    ) -> None:
        self._build = functools.partial(renderer, inputs, store_url, device)
        self._renderer: Any = None
        self._events: deque[Event] = deque()
        self._task: tuple[int, Work] | None = None

    def start(self, worker: int) -> None:
        """Build the network, the data and the planes here.

        Raises:
            LossatlasError: the user's files cannot be loaded.
        """
        self._renderer = self._build(worker, threads=1)
        self._events.append(Joined(worker))

    def render(self, worker: int, work: Work) -> None:
        self._task = (worker, work)

    def kill(self, worker: int) -> None:
        self._task = None

    def wait(self, seconds: float) -> list[Event]:
        if self._task is not None:
            worker, work = self._task
            self._task = None
            self._events.append(self._evaluate(worker, work))
        if not self._events:
            time.sleep(seconds)
        events = list(self._events)
        self._events.clear()
        return events

    def obstacle(self) -> str:
        return ""

    def close(self) -> None:
        self._renderer = None

    def _evaluate(self, worker: int, work: Work) -> Event:
        try:
            facts = self._renderer(work)
        except InputsChangedError:
            raise
        except OSError as error:
            return Unwritable(worker, describe(error))
        except Exception as error:
            return Failed(worker, describe(error))
        return Done(worker, facts.points, facts.seconds, facts.write_seconds)

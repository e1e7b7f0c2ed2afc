"""What memory a render takes: said beforehand, refused where there is none, told where it ends."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from cluster.cli import main
from pipeline import footprint, memory
from pipeline.evaluation.barrier import BarrierError
from pipeline.evaluation.evaluator import Evaluator
from pipeline.evaluation.room import NoRoomError
from pipeline.footprint import Footprint, FootprintError, _Took
from pipeline.prepare import Prepared, prepare
from pipeline.problem.layout import Layout
from pipeline.spec import read
from pipeline.task import RenderInputs
from tests.cluster.landscape import lay_out

MIB = 1 << 20
FULL = (
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you "
                 "tried to allocate 99999 bytes."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error "
                 "code 12 (Cannot allocate memory)"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
)  # fmt: skip


class Small(nn.Module):
    """A convolution and a batch norm; it raises what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.failure: Exception | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.failure is not None and len(x) > 2:
            raise self.failure
        return self.norm(self.convolution(x)).flatten(1)


def evaluator(net: nn.Module, chunk: int | None = None) -> Evaluator:
    x = np.random.default_rng(0).standard_normal((16, 1, 5, 5)).astype("f4")
    return Evaluator(net, {"train": (x, np.arange(16) % 3)}, chunk=chunk)


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return prepare(read(lay_out(tmp_path)))


class Waiting:
    """An evaluator to ask for its sizes: of 40 chunks of 8 examples, 1 MiB each, all waiting."""

    chunk, example_bytes, recomputes = 8, MIB, True
    layout = Layout.of(nn.Linear(999, 1))


def of_many(prepared: Prepared) -> Footprint:
    inputs = dict(prepared.inputs.problem.splits)
    inputs["train"] = (np.zeros((320, 4), "f4"), np.zeros(320, "i8"))
    return Footprint(prepared.inputs.with_splits(inputs), Waiting(), 200 * MIB)  # type: ignore[arg-type]


def test_what_was_measured_is_taken_in_proportion(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    begins = of_many(prepared)._begins

    def measured(inputs: RenderInputs) -> _Took:
        asked.append(len(inputs.problem.splits["train"][0]))
        points = begins + 5.0 * MIB * asked[-1]
        return _Took(50 * MIB + points, points, 300.0 * MIB)

    monkeypatch.setattr(memory, "available", lambda: math.inf)
    monkeypatch.setattr(footprint, "_measured", measured)
    found = of_many(prepared)
    assert found._took.points == pytest.approx(begins + 5 * MIB * 320)
    assert asked == [256]
    own = found.worker() - found.shared
    assert own == pytest.approx((300 + 70 + 50 + 5 * 320) * MIB + begins, rel=1e-5)
    assert of_many(prepared).worker("cuda") < 500 * MIB  # nothing waits in the host's memory


def test_measuring_takes_little_memory_itself(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        footprint, "_measured", lambda inputs: asked.append(len(inputs.problem.splits["train"][0]))
    )
    monkeypatch.setattr(memory, "available", lambda: 1000.0 * MIB)
    assert of_many(prepared)._took == of_many(prepared)._estimate(320)
    assert asked == [32]
    monkeypatch.setattr(memory, "available", lambda: 100.0 * MIB)
    with pytest.raises(FootprintError, match=r"320 examples of train takes 2\.\d GB of memory"):
        of_many(prepared).require_driver()
    assert asked == [32]


def test_what_does_not_fit_is_refused_with_the_cure(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = _Took(1000.0 * MIB, 900.0 * MIB, 200.0 * MIB)
    monkeypatch.setattr(Footprint, "_took", took)
    found = of_many(prepared)
    monkeypatch.setattr(memory, "available", lambda: 4500.0 * MIB)
    found.require(3)
    with pytest.raises(FootprintError, match=r"4 workers of 1\.3 GB each take 5\.\d GB of memory "
                       r"with what they share and 4\.7 GB are free.*--workers 3, or fewer examples "
                       r"in data\.splits\.train"):  # fmt: skip
        found.require(4)
    monkeypatch.setattr(memory, "available", lambda: 800.0 * MIB)
    with pytest.raises(FootprintError, match=r"1 worker of 1\.3 GB .* Use fewer examples in "
                       r"data\.splits\.train \(about \d+ fit\)"):  # fmt: skip
        found.require(1)
    monkeypatch.setattr(memory, "available", lambda: 100.0 * MIB)
    with pytest.raises(
        FootprintError, match=r"rendering takes \d\.\d GB more of memory and 105 MB"
    ):
        found.require(1, serial=True)


@pytest.mark.parametrize("command", [["plan"], ["render"], ["render", "--executor", "serial"]])
def test_a_render_is_refused_before_anything_is_left(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
) -> None:
    spec = lay_out(tmp_path)
    if command == ["plan"]:
        assert main.run(["plan", str(spec)]) == 0
        assert "a worker and" in capsys.readouterr().out.partition("  memory  ")[2]
    monkeypatch.setattr(memory, "available", lambda: 1.0 * MIB)
    assert main.run([command[0], str(spec), *command[1:]]) == 2
    err = capsys.readouterr().err
    assert err.startswith("lossatlas: ")
    assert err.count("\n") == 1
    assert "MB are free; wanted what fits" in err
    assert not list(tmp_path.glob("*.zarr"))


def test_workers_that_do_not_fit_leave_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = lay_out(tmp_path)
    monkeypatch.setattr(memory, "available", lambda: 200.0 * MIB)
    assert main.run(["render", str(spec), "--workers", "3"]) == 2
    # How much each takes goes by what this process holds, and many tests hold much.
    assert re.match(r"lossatlas: 3 workers of [\d.]+ [MG]B each take", capsys.readouterr().err)
    assert not list(tmp_path.glob("*.zarr"))


@pytest.mark.parametrize("failure", FULL[:-1], ids=str)
def test_a_full_memory_is_one_line(failure: Exception) -> None:
    net = Small()
    made = evaluator(net)
    net.failure = failure
    with pytest.raises(NoRoomError, match=r"no memory or no threads for the 16 examples of train "
                       r".* Use fewer examples in data\.splits, or fewer workers"):  # fmt: skip
        made.at(np.zeros(48, "f4"))


def test_threads_that_do_not_start_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    made = evaluator(Small(), chunk=4)

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    with pytest.raises(BarrierError, match="no thread for each of 4 chunks"):
        made.at(np.zeros(48, "f4"))


@pytest.mark.parametrize("failure", [*FULL, RuntimeError("can't start new thread")], ids=str)
def test_wherever_memory_ends_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: Exception
) -> None:
    def full(*_: object) -> None:
        raise failure

    monkeypatch.setattr("pipeline.store.store.Store.open", full)
    assert main.run(["status", "x.zarr"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("lossatlas: there is not enough memory, or no more threads (")
    assert err.count("\n") == 1


def test_a_full_memory_while_it_is_prepared_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = lay_out(tmp_path)
    content: dict[str, Any] = yaml.safe_load(spec.read_text())
    (tmp_path / "full.py").write_text(
        "def full(outputs, targets):\n    raise RuntimeError('not enough memory: you tried to')\n"
    )
    content["evaluate"] = {"loss": "full.py:full", "quantities": ["loss"]}
    spec.write_text(yaml.safe_dump(content))
    assert main.run(["plan", str(spec)]) == 2
    err = capsys.readouterr().err
    assert "cpu has no room for the network and the data" in err
    assert err.count("\n") == 1

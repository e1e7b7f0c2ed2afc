"""Training a mode, and what all training shares: SGD, its checkpoints, its refusals."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from pipeline.errors import LossatlasError
from pipeline.problem import checkpoint, network, state_dict
from pipeline.problem.layout import Layout
from pipeline.problem.losses import cross_entropy
from pipeline.training import fit, session, sgd
from pipeline.training import spec as connect_spec
from pipeline.training.run_folder import TrainingError, locked
from pipeline.training.session import Progress
from pipeline.training.spec import FitSpec, TrainSpec

# Everything that could make two trainings differ: dropout, running statistics, augmentation.
NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.dropout(torch.relu(self.norm(self.conv(x)))).mean((2, 3)))
"""
TRAIN = {"epochs": 6, "batch": 16, "lr": 0.1, "weight_decay": 1e-3, "seed": 3}
IMAGES: dict[str, Any] = {
    "network": {"factory": "net.py:Net"},
    "data": {
        "source": "images.npz",
        "splits": {"train": 60},
        "normalise": {"mean": [0.5], "std": [0.25]},
    },
    "train": TRAIN | {"augment": "crop-flip", "nesterov": True},
    "out": "run",
}
MOONS: dict[str, Any] = {
    "network": {"factory": "mlp", "kwargs": {"inputs": 2, "hidden": [16], "classes": 2}},
    "data": {"source": "moons", "splits": {"train": 128, "test": 64}},
    "train": TRAIN | {"epochs": 40, "batch": 32, "lr": 0.3, "weight_decay": 0.0},
    "out": "run",
}


def write_data(folder: Path) -> None:
    """Bright and dark images, a network for them, and two half moons."""
    random = np.random.default_rng(0)
    labels = np.arange(64) % 2
    images = random.uniform(0, 1, (64, 1, 6, 6)) * (0.6 + 0.4 * labels[:, None, None, None])
    np.savez(folder / "images.npz", x=images.astype("f4"), y=labels)
    (folder / "net.py").write_text(NET)
    (folder / "moons").mkdir(exist_ok=True)
    for split, count in (("train", 128), ("test", 64)):
        angle, which = random.uniform(0, np.pi, count), np.arange(count) % 2
        x = np.stack([np.cos(angle) + which, np.sin(angle) - 2 * which * np.sin(angle)], 1)
        x += which[:, None] * [0.0, 0.4] + random.normal(0, 0.1, (count, 2))
        np.savez(folder / "moons" / f"{split}.npz", x=x.astype("f4"), y=which)


def fit_spec(folder: Path, content: dict[str, Any], **changes: Any) -> FitSpec:
    """`content` with `changes` of its keys, where `train` and `data` are merged."""
    folder.mkdir(exist_ok=True)
    if not (folder / "net.py").exists():
        write_data(folder)
    merged = dict(content)
    for key, value in changes.items():
        merged[key] = content[key] | value if key in ("train", "data") else value
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(merged, sort_keys=False))
    return connect_spec.read_fit(path)


@contextmanager
def quick() -> Iterator[None]:
    """One thread, and no flush to disk: what is written survives a kill without it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with quick():
        yield


class StopError(Exception):
    """Raised by a progress callback, as an interrupt is."""


def stop_at(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.step >= step:
            raise StopError

    return stop


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a training but the one that says when it began."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "training.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def kill_while_training(kind: str, spec_file: Path, folder: Path) -> None:
    """Run a training in a process of its own and kill −9 it in the middle."""
    script = (
        "import os, time, torch\n"
        "torch.set_num_threads(1)\n"
        "os.fsync = lambda _: None\n"
        f"from pipeline.training import spec as connect_spec, {kind}\n"
        f"prepared = {kind}.prepare(connect_spec.read_{kind}({str(spec_file)!r}))\n"
        f"{kind}.{kind}(prepared, on_progress=lambda _: time.sleep(0.02), checkpoint_seconds=0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2]) as process:
        deadline = time.monotonic() + 60
        while not (folder / "state.safetensors").exists() or _step(folder) < 7:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def _step(folder: Path) -> int:
    import safetensors

    with safetensors.safe_open(folder / "state.safetensors", "pt") as file:
        return int(json.loads(file.metadata()["facts"])["step"])


def test_the_learning_rate_is_the_authors() -> None:
    def reference(base: float, epoch: int, total: int) -> float:
        alpha = epoch / total
        if alpha <= 0.5:
            factor = 1.0
        elif alpha <= 0.9:
            factor = 1.0 - (alpha - 0.5) / 0.4 * 0.99
        else:
            factor = 0.01
        return factor * base

    for epochs in (1, 2, 14, 30):
        recipe = TrainSpec(epochs=epochs, lr=0.05)
        for epoch in range(1, epochs + 1):
            expected = reference(0.05, epoch, epochs)
            assert sgd.learning_rate(recipe, epoch) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_step_is_that_of_torchs_sgd(nesterov: bool) -> None:
    recipe = TrainSpec(epochs=1, lr=0.1, momentum=0.8, nesterov=nesterov)
    torch.manual_seed(0)
    found = torch.randn(5)
    reference = nn.Parameter(found.clone())
    optimiser = torch.optim.SGD([reference], lr=0.1, momentum=0.8, nesterov=nesterov)
    momentum = torch.zeros(5)
    for _ in range(4):
        gradient = torch.randn(5)
        reference.grad = gradient.clone()
        optimiser.step()
        sgd.sgd_step(found, momentum, gradient, 0.1, recipe)
    torch.testing.assert_close(found, reference.detach())


def test_batches_are_an_even_permutation_of_seed_and_epoch_alone() -> None:
    pieces = sgd.batches(33, 16, seed=1, epoch=2)
    assert [len(piece) for piece in pieces] == [11, 11, 11]
    np.testing.assert_array_equal(np.sort(np.concatenate(pieces)), np.arange(33))
    np.testing.assert_array_equal(pieces[1], sgd.batches(33, 16, seed=1, epoch=2)[1])
    assert not np.array_equal(pieces[0], sgd.batches(33, 16, seed=1, epoch=3)[0])


def test_random_numbers_of_different_purposes_are_not_the_same() -> None:
    drawn = {sgd.generator(0, 1, 2, p).random() for p in ("order", "curve", "augment")}
    assert len(drawn) == 3


def test_crops_and_mirrors_are_windows_of_the_padded_image() -> None:
    images = torch.arange(2 * 40 * 5 * 6, dtype=torch.float32).view(40, 2, 5, 6)
    fill = torch.tensor([-1.0, -2.0])
    made = sgd.crop_flip(images, fill, np.random.default_rng(0))
    seen = set()
    for image, found in zip(images, made, strict=True):
        padded = fill.view(2, 1, 1).repeat(1, 13, 14)
        padded[:, 4:9, 4:10] = image
        places = _windows(padded, found)
        assert places
        seen |= places
    assert {flip for _, _, flip in seen} == {False, True}
    assert len({(top, left) for top, left, _ in seen}) > 20


def _windows(padded: torch.Tensor, found: torch.Tensor) -> set[tuple[int, int, bool]]:
    height, width = found.shape[1:]
    return {
        (top, left, flip)
        for top in range(9)
        for left in range(9)
        for flip in (False, True)
        for window in [padded[:, top : top + height, left : left + width]]
        if torch.equal(found, window.flip(-1) if flip else window)
    }


def test_a_mode_is_found_and_another_seed_finds_another(tmp_path: Path) -> None:
    results = []
    for seed in (0, 1):
        spec = fit_spec(tmp_path, MOONS, train={"seed": seed}, out=f"run{seed}")
        told: list[Progress] = []
        outcome = fit.fit(fit.prepare(spec), on_progress=told.append)
        assert outcome.losses[-1] < 0.25 < outcome.losses[0]
        assert (told[-1].step, told[-1].epoch) == (outcome.steps, 40)
        net = network.build(spec.network.factory, spec.network.kwargs)
        state = checkpoint.load(str(outcome.result))
        state_dict.match(state, Layout.of(net), "mode")
        results.append(state_dict.weights(state, Layout.of(net)))
    assert np.linalg.norm(results[0] - results[1]) > 1


def test_batch_norm_statistics_are_trained_and_weights_decay(tmp_path: Path) -> None:
    prepared = fit.prepare(fit_spec(tmp_path, IMAGES))
    state = checkpoint.load(str(fit.fit(prepared).result))
    assert float(state["norm.running_mean"].abs().sum()) > 0
    assert int(state["norm.num_batches_tracked"]) == 24
    decayed = fit.prepare(fit_spec(tmp_path, IMAGES, train={"weight_decay": 0.3}, out="decayed"))
    smaller = checkpoint.load(str(fit.fit(decayed).result))
    assert smaller["conv.weight"].norm() < 0.7 * state["conv.weight"].norm()


def test_the_penalty_is_half_the_squared_norm_of_all_weights() -> None:
    net = nn.Linear(3, 2)
    theta = nn.utils.parameters_to_vector(net.parameters()).detach()
    x, y = torch.ones(4, 3), torch.zeros(4, dtype=torch.int64)
    with_penalty, mean = sgd.penalised_loss(net, theta, {}, x, y, cross_entropy, 0.2)
    assert float(mean) == pytest.approx(cross_entropy(net(x), y).mean().item(), rel=1e-6)
    assert float(with_penalty - mean) == pytest.approx(0.1 * float(theta @ theta), rel=1e-6)


@pytest.mark.parametrize("at", [1, 7, 23])
def test_an_interrupted_training_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    frames = {"every": 5, "unit": "step"}
    whole = fit.prepare(fit_spec(tmp_path, IMAGES, out="whole", frames=frames))
    fit.fit(whole, checkpoint_seconds=0)
    parts = fit.prepare(fit_spec(tmp_path, IMAGES, out="parts", frames=frames))
    told: list[Progress] = []

    def each(progress: Progress) -> None:
        told.append(progress)
        stop_at(at)(progress)

    monkeypatch.setattr(session, "_PROGRESS_SECONDS", 0)
    with pytest.raises(StopError):
        fit.fit(parts, on_progress=each, checkpoint_seconds=0)
    torch.manual_seed(99)
    outcome = fit.fit(parts, checkpoint_seconds=0)
    assert outcome.resumed_at == told[-1].step == at
    assert bytes_of(parts.folder) == bytes_of(whole.folder)


def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = fit.prepare(fit_spec(tmp_path, IMAGES, out="whole", train={"epochs": 40}))
    fit.fit(whole)
    spec = fit_spec(tmp_path, IMAGES, out="killed", train={"epochs": 40})
    kill_while_training("fit", tmp_path / "spec.yaml", Path(spec.out))
    outcome = fit.fit(fit.prepare_again(spec.out))
    assert 7 <= outcome.resumed_at < outcome.steps
    state = (Path(spec.out) / "mode.safetensors").read_bytes()
    assert state == (whole.folder / "mode.safetensors").read_bytes()


def test_training_leaves_torchs_random_numbers_alone(tmp_path: Path) -> None:
    prepared = fit.prepare(fit_spec(tmp_path, IMAGES))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit.fit(prepared)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    prepared = fit.prepare(fit_spec(tmp_path, IMAGES))
    first = fit.fit(prepared)
    content = first.result.read_bytes()
    first.result.unlink()
    again = fit.fit(fit.prepare_again(prepared.folder))
    assert again.resumed_at == again.steps == 24
    assert again.losses == first.losses
    assert first.result.read_bytes() == content


def test_frames_of_a_mode_are_its_states(tmp_path: Path) -> None:
    prepared = fit.prepare(fit_spec(tmp_path, IMAGES, frames={"every": 4}))
    outcome = fit.fit(prepared)
    folder = prepared.folder / "frames"
    facts = [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]
    assert [each["epoch"] for each in facts] == [0, 4, 6]
    assert facts[0]["train_loss"] is None
    assert facts[2]["train_loss"] == outcome.losses[-1]
    last, mode = (
        checkpoint.load(str(path)) for path in (folder / "frame-0002.safetensors", outcome.result)
    )
    assert all(torch.equal(last[name], mode[name]) for name in mode)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train": {"batch": 61}}, "train.batch is 61 and data.splits.train has 60 examples"),
        ({"data": {"source": "none.npz"}}, "none.npz does not exist"),
        (
            {"network": {"factory": "mlp", "kwargs": {"inputs": 36, "classes": 1}}},
            "are 0 to 1; wanted",
        ),
        ({"network": {"factory": "mlp", "kwargs": {"inputs": 35}}}, "does not take the data"),
        ({"loss": "hinge:loss"}, "hinge"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    spec = fit_spec(tmp_path, IMAGES, **changes)
    with pytest.raises(LossatlasError, match=expected) as error:
        fit.prepare(spec)
    assert "\n" not in str(error.value)
    assert not Path(spec.out).exists()


def test_vectors_cannot_be_cropped(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="crop-flip and the inputs of data.splits.train"):
        fit.prepare(fit_spec(tmp_path, MOONS, train={"augment": "crop-flip"}))


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    spec = fit_spec(tmp_path, IMAGES)
    np.savez(tmp_path / "images.npz", x=np.zeros((0, 1, 6, 6), "f4"), y=np.zeros(0, "i8"))
    with pytest.raises(LossatlasError, match="holds no examples"):
        fit.prepare(spec)


def test_a_diverged_training_stops_and_keeps_its_last_good_state(tmp_path: Path) -> None:
    spec = fit_spec(tmp_path, MOONS, train={"lr": 1e12, "momentum": 0.99})
    with pytest.raises(TrainingError, match=r"diverged: .* wanted finite numbers. Lower train.lr"):
        fit.fit(fit.prepare(spec), checkpoint_seconds=0)
    for path in Path(spec.out).glob("*.safetensors"):
        assert all(torch.isfinite(t).all() for t in checkpoint.load(str(path)).values())
    assert not (Path(spec.out) / "mode.safetensors").exists()


def test_a_device_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = fit.prepare(fit_spec(tmp_path, IMAGES))

    def no_room(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(session, "_step", no_room)
    with pytest.raises(TrainingError, match=r"no room for a step of \d+ examples .*train.batch"):
        fit.fit(prepared)


def test_the_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    fit.fit(fit.prepare(fit_spec(tmp_path, IMAGES)))
    other = fit_spec(tmp_path, IMAGES, train={"lr": 0.2, "seed": 4})
    with pytest.raises(TrainingError, match="train.lr: 0.1 in the store, 0.2 here; train.seed"):
        fit.fit(fit.prepare(other))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("x")
    with pytest.raises(TrainingError, match=r"holds thesis.tex and no training"):
        fit.fit(fit.prepare(fit_spec(tmp_path, IMAGES, out="taken")))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    prepared = fit.prepare(fit_spec(tmp_path, IMAGES))
    with (
        locked(prepared.folder, prepared.facts),
        pytest.raises(TrainingError, match="another process is training"),
    ):
        fit.fit(prepared)


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    prepared = fit.prepare(fit_spec(tmp_path, IMAGES))
    fit.fit(prepared)
    path = prepared.folder / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TrainingError, match=r"state.safetensors is not a whole checkpoint"):
        fit.fit(prepared)


def test_a_full_disk_is_one_line_and_the_training_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = fit.prepare(fit_spec(tmp_path, IMAGES))
    calls = iter(range(1000))

    def full(_: int) -> None:
        if next(calls) >= 5:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TrainingError, match=r"cannot be written \(No space left on device\)"):
            fit.fit(prepared, checkpoint_seconds=0)
    assert not list(prepared.folder.glob(".*.partial"))
    assert fit.fit(prepared).resumed_at == 4


def test_changed_data_and_a_curves_folder_are_refused(tmp_path: Path) -> None:
    prepared = fit.prepare(fit_spec(tmp_path, IMAGES))
    fit.fit(prepared)
    images = np.load(tmp_path / "images.npz")
    np.savez(tmp_path / "images.npz", x=images["x"] * 0.5, y=images["y"])
    with pytest.raises(TrainingError, match=r"have changed: data.train"):
        fit.prepare_again(prepared.folder)
    with pytest.raises(TrainingError, match=r"holds no training.json"):
        fit.prepare_again(tmp_path)


def test_what_is_prepared_can_be_sent(tmp_path: Path) -> None:
    """To a machine that the user's files are not on, as for a Ray task."""
    prepared = fit.prepare(fit_spec(tmp_path, IMAGES))
    (tmp_path / "net.py").unlink()
    (tmp_path / "images.npz").unlink()
    assert fit.fit(pickle.loads(pickle.dumps(prepared))).result.exists()

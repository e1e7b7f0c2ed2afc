"""Trajectories: what `fit` keeps, what a loop of one's own keeps, and Adam."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from torch import nn

import lossatlas
from pipeline import prepare
from pipeline import spec as render_spec
from pipeline.checkpoints import files
from pipeline.problem import checkpoint
from pipeline.spec_file import SpecError
from pipeline.training import fit, session, sgd
from pipeline.training.run_folder import TrainingError
from pipeline.training.spec import KeepSpec, TrainSpec, read_fit
from tests.pipeline.test_fit import (
    IMAGES,
    MOONS,
    StopError,
    bytes_of,
    fit_spec,
    kill_while_training,
    quick,
    stop_at,
)


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with quick():
        yield


def _facts(path: Path) -> dict[str, Any]:
    with safetensors.safe_open(path, "pt") as file:
        return dict(json.loads(file.metadata()["facts"]))


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ({"every": "2 epochs"}, ["epoch-000", "epoch-002", "epoch-004", "epoch-006"]),
        ({"every": "1 epoch"}, [f"epoch-{epoch:03d}" for epoch in range(7)]),
        ({"every": "9 steps"}, ["step-000000", "step-000009", "step-000018", "step-000024"]),
        ({"steps": (2, 4)}, ["step-000002", "step-000003", "step-000004"]),
        ({"every": "4 epochs", "steps": (0, 1)}, ["epoch-000", "epoch-004", "epoch-006"]),
        ({"every": "20 steps", "steps": (20, 20)}, ["step-000000", "step-000020", "step-000024"]),
    ],
)
def test_which_weights_are_kept(keep: dict[str, Any], kept: list[str]) -> None:
    """Six epochs of four steps."""
    spec = KeepSpec(**keep)
    found = [stem for step in range(25) for stem in spec.stems(step, 24, 4)]
    if "steps" in keep and "epochs" in keep.get("every", ""):
        kept = ["epoch-000", "step-000000", "step-000001", *kept[1:]]
    assert found == kept


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"every": "0 epochs"}, "pattern"),
        ({"every": "epoch"}, "pattern"),
        ({}, "keep is empty"),
        ({"steps": [5, 2]}, "wanted two that rise"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, keep: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        fit_spec(tmp_path, IMAGES, keep=keep)


def test_a_trajectory_is_kept_with_its_epochs(tmp_path: Path) -> None:
    prepared = fit.prepare(fit_spec(tmp_path, IMAGES, keep={"every": "1 epoch", "steps": [1, 2]}))
    outcome = fit.fit(prepared)
    paths = sorted(prepared.folder.glob("epoch-*.safetensors"))
    assert [_facts(path)["epoch"] for path in paths] == list(range(7))
    assert [_facts(path)["train_loss"] for path in paths] == [None, *outcome.losses]
    assert _facts(prepared.folder / "step-000002.safetensors")["epoch"] == 0.5
    last, mode = (checkpoint.load(str(path)) for path in (paths[-1], outcome.result))
    assert all(torch.equal(last[name], mode[name]) for name in mode)  # buffers too


def test_a_training_without_keep_is_the_one_of_earlier_versions(tmp_path: Path) -> None:
    parts = fit.prepare(fit_spec(tmp_path, IMAGES)).facts["parts"]
    assert "keep" not in parts
    assert "train.optimiser" not in parts


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("at", [6, 23])
def test_an_interrupted_trajectory_is_the_same_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, optimiser: str
) -> None:
    keep = {"every": "1 epoch", "steps": [5, 8]}
    train = {"optimiser": optimiser, "lr": 0.01, "nesterov": False}
    folders = []
    for out in ("whole", "parts"):
        prepared = fit.prepare(fit_spec(tmp_path, IMAGES, out=out, keep=keep, train=train))
        folders.append(prepared.folder)
        if out == "parts":
            monkeypatch.setattr(session, "_PROGRESS_SECONDS", 0)
            with pytest.raises(StopError):
                fit.fit(prepared, on_progress=stop_at(at), checkpoint_seconds=1e9 * (at == 6))
        fit.fit(prepared, checkpoint_seconds=0)
    whole, parts = map(bytes_of, folders)
    assert parts == whole
    assert len([name for name in whole if name.startswith("step-")]) == 4


def test_a_killed_trajectory_goes_on_bit_for_bit(tmp_path: Path) -> None:
    keep = {"every": "2 epochs", "steps": [0, 12]}
    train = {"optimiser": "adam", "epochs": 30, "lr": 0.01, "nesterov": False}
    whole = fit.prepare(fit_spec(tmp_path, IMAGES, out="whole", keep=keep, train=train))
    fit.fit(whole)
    spec = fit_spec(tmp_path, IMAGES, out="killed", keep=keep, train=train)
    kill_while_training("fit", tmp_path / "spec.yaml", Path(spec.out))
    fit.fit(fit.prepare_again(spec.out))
    assert bytes_of(Path(spec.out)) == bytes_of(whole.folder)


def test_a_kept_trajectory_has_a_best_fit_plane(tmp_path: Path) -> None:
    asked = fit_spec(tmp_path, MOONS, train={"epochs": 5}, keep={"every": "1 epoch"})
    fit.fit(fit.prepare(asked))
    content = {
        "name": "path",
        "network": MOONS["network"],
        "plane": {"kind": "fit", "weights": f"{asked.out}/epoch-*.safetensors"},
        "grid": {"width": 3, "height": 3},
        "data": {"source": str(tmp_path / "moons"), "splits": {"train": 128}},
        "store": str(tmp_path / "path.zarr"),
    }
    prepared = prepare.prepare(render_spec.parse(content))
    assert sum(prepared.facts["plane"]["explained"]) > 0.8
    # The folder itself is the same: `state.safetensors` and `mode.safetensors` in it are left out.
    plane = {"kind": "fit", "weights": asked.out}
    again = prepare.prepare(
        render_spec.parse(content | {"plane": plane, "marks": [{"weights": asked.out}]})
    )
    assert again.facts["plane"] == prepared.facts["plane"]
    (group,) = again.facts["marks"]
    assert group["names"] == [f"epoch-00{n}" for n in range(6)]


def test_the_folder_of_a_training_that_kept_nothing_is_its_mode(tmp_path: Path) -> None:
    for name in ("mode.safetensors", "state.safetensors", "training.json"):
        (tmp_path / name).touch()
    assert files.listed(str(tmp_path), "weights") == (str(tmp_path / "mode.safetensors"),)
    (tmp_path / "epoch-000.safetensors").touch()
    assert files.listed(str(tmp_path), "weights") == (str(tmp_path / "epoch-000.safetensors"),)
    (tmp_path / "training.json").unlink()  # a folder of somebody else's
    assert len(files.listed(str(tmp_path), "weights")) == 3


def test_the_examples_can_be_trained_and_rendered() -> None:
    folder = Path(__file__).parents[2] / "examples" / "trajectory"
    trained = {path.stem: read_fit(path) for path in folder.glob("fit-*.yaml")}
    assert len(trained) == 5
    assert all(fit.prepare(each).spec.keep is not None for each in trained.values())
    kept = {each.out for each in trained.values()}
    for path in folder.glob("[!f]*.yaml"):
        plane = render_spec.read(path).plane
        weights = (plane.weights,) if isinstance(plane.weights, str) else plane.weights
        assert all(str(Path(each).parent) in kept for each in weights)


# Adam


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_a_step_is_that_of_torchs_adam(momentum: float) -> None:
    recipe = TrainSpec(epochs=1, optimiser="adam", lr=0.1, momentum=momentum)
    torch.manual_seed(0)
    found = torch.randn(50)
    reference = nn.Parameter(found.clone())
    optimiser = torch.optim.Adam([reference], lr=0.1, betas=(momentum, 0.999))
    mean, squares = torch.zeros(50), torch.zeros(50)
    for step in range(1, 6):
        gradient = torch.randn(50)
        reference.grad = gradient.clone()
        optimiser.step()
        sgd.adam_step(found, mean, squares, gradient, 0.1, recipe, step)
    torch.testing.assert_close(found, reference.detach(), rtol=1e-6, atol=1e-7)


def test_adam_trains_a_mode_and_has_no_nesterov(tmp_path: Path) -> None:
    train = {"optimiser": "adam", "lr": 0.02}
    prepared = fit.prepare(fit_spec(tmp_path, MOONS, train=train))
    assert prepared.facts["parts"]["train.optimiser"] == "adam"
    assert fit.fit(prepared).losses[-1] < 0.25
    with pytest.raises(SpecError, match="nesterov with optimiser: adam"):
        fit_spec(tmp_path, MOONS, train=train | {"nesterov": True})


# A loop of one's own


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)


def test_a_loop_of_ones_own_keeps_weights_and_buffers(tmp_path: Path) -> None:
    net = Net()
    wrapped = {
        "plain": net,
        "compiled": torch.compile(net, backend="eager"),
        "parallel": nn.DataParallel(net),
        "both": torch.compile(nn.DataParallel(net), backend="eager"),
    }
    for step, (name, each) in enumerate(wrapped.items()):
        path = lossatlas.keep(each, tmp_path / name, step, epoch=0.5)  # type: ignore[arg-type]
        assert path == tmp_path / name / f"step-{step:06d}.safetensors"
        assert _facts(path) == {"step": step, "epoch": 0.5}
        kept = checkpoint.load(str(path))
        assert set(kept) == set(net.state_dict())
        assert all(torch.equal(kept[key], value) for key, value in net.state_dict().items())
    assert not list(tmp_path.rglob("*.partial"))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written"):
        lossatlas.keep(Net(), tmp_path / "file", 0)


# The code that docs/how-to/keep-a-trajectory.md shows


def _shown(heading: str) -> str:
    """The Python of a section, up to the trainer."""
    page = Path(__file__).parents[2] / "docs/how-to/keep-a-trajectory.md"
    section = page.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    code = section.partition("```python\n")[2].partition("```")[0]
    assert code
    return code.partition("\ntrainer = ")[0]


def test_the_loop_that_is_shown_keeps_a_trajectory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = Net()
    exec(_shown("In a loop of your own"), {"network": net, "epochs": 2, "loader": [(0, 0)]})
    kept = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert kept == ["step-000001.safetensors", "step-000002.safetensors"]


def test_lightnings_callback_keeps_a_trajectory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lightning = pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(_shown("In PyTorch Lightning"), names)

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3, 2)

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            return self.net(batch).square().mean()  # type: ignore[no-any-return]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[names["Keep"]()], **quiet
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.ones(8, 3), batch_size=4))
    paths = sorted((tmp_path / "run").iterdir())
    assert [_facts(path) for path in paths] == [{"step": 2, "epoch": 1}, {"step": 4, "epoch": 2}]
    assert set(checkpoint.load(str(paths[0]))) == {"net.weight", "net.bias"}


def test_the_hugging_face_callback_keeps_a_trajectory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(_shown("In the Hugging Face trainer").replace("% 100", "% 2"), names)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": (self.net(x) - labels).square().mean()}

    args = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=4, per_device_train_batch_size=2,
        save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    data = [{"x": torch.ones(3), "labels": torch.zeros(2)} for _ in range(8)]
    trainer = transformers.Trainer(
        model=Model(), args=args, train_dataset=data, callbacks=[names["Keep"]()]
    )
    trainer.train()
    paths = sorted((tmp_path / "run").iterdir())
    assert [_facts(path)["step"] for path in paths] == [2, 4]
    assert _facts(paths[1])["epoch"] == 1.0

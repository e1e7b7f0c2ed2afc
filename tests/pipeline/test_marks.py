"""Marks: where they lie, and their own loss at their own weights."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from pipeline import opening, plan, prepare, spec
from pipeline.errors import InputsChangedError, LossatlasError
from pipeline.geometry import film_planes, marks_survey, plane
from pipeline.geometry.film_planes import Still
from pipeline.geometry.mark_files import names_of
from pipeline.geometry.marks_survey import MarksSurvey
from pipeline.geometry.weight_averages import Gaussian, RunningGaussian, RunningMean
from pipeline.marks_spec import MarksSpec, SwagSpec
from pipeline.naming import NamingError
from pipeline.prepare import Prepared
from pipeline.problem import checkpoint, network
from pipeline.problem.layout import Layout
from pipeline.spec import RenderSpec
from pipeline.spec_file import SpecError
from pipeline.store.marks import StoredMarks
from pipeline.store.store import Store
from pipeline.task import TileRenderer
from tests.pipeline import naive, test_growth
from tests.pipeline.test_film_planes import Theta

MakeSpec = Callable[..., RenderSpec]
SIZE = 6
LAYOUT = Layout.of(Theta(SIZE))


def trajectory(folder: Path, count: int = 5, size: int = SIZE, seed: int = 5) -> np.ndarray:
    """Checkpoints epoch-0 … in `folder`; their weights, float64 (count, size)."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.random.default_rng(seed).standard_normal((count, size)).astype("f4")
    for number, theta in enumerate(weights):
        save_file({"theta": torch.tensor(theta)}, folder / f"epoch-{number}.safetensors")
    return weights.astype("f8")


def rendered(read: RenderSpec) -> tuple[Prepared, Store]:
    """The store of a render whose marks are evaluated, and none of its tiles."""
    prepared = prepare.prepare(read)
    store, _ = opening.create(prepared, plan.resolve_grid(prepared, 1e-3, 2))
    renderer = TileRenderer(prepared.inputs, store.url)
    for block in StoredMarks(store).pending():
        renderer(block)
    return prepared, store


def surveyed(*groups: dict[str, Any], planes: Any = None, frames: int = 1) -> MarksSurvey:
    asked = [MarksSpec.model_validate(group) for group in groups]
    planes = planes or Still(plane.along_line(np.zeros(SIZE), np.ones(SIZE)))
    return marks_survey.survey(asked, planes, frames, LAYOUT, False)


# Own losses, and places


PLANES: dict[str, dict[str, Any]] = {
    "points": {"kind": "points", "weights": [f"{n}.safetensors" for n in "abc"]},
    "curve": {"kind": "curve", "weights": [f"{n}.safetensors" for n in "abc"]},
    "random": {"kind": "random", "weights": ["a.safetensors"]},
    "interpolation": {"kind": "interpolation", "weights": ["a.safetensors", "b.safetensors"]},
    "film": {
        "kind": "curve",
        "weights": ["a.safetensors", "b.safetensors"],
        "frames": ["c.safetensors", "../run/epoch-1.safetensors"],
    },
}


@pytest.mark.parametrize("kind", PLANES)
def test_a_mark_has_the_loss_of_its_own_weights_on_every_kind_of_plane(
    bowl: MakeSpec, tmp_path: Path, kind: str
) -> None:
    weights = trajectory(tmp_path / "run", 10)
    height = 1 if kind == "interpolation" else 5
    read = bowl(
        plane=PLANES[kind],
        grid={"width": 7, "height": height, "tile": 3},
        marks=[{"weights": "../run/epoch-*.safetensors"}, {"weights": ["b.safetensors"]}],
    )
    prepared, store = rendered(read)
    marks = StoredMarks(store)
    assert marks.count == 11
    found = marks.values("loss")
    np.testing.assert_allclose(found[0, :10], np.mean(weights**2, axis=1), rtol=1e-6)
    layout = prepared.evaluator.layout
    for frame in range(store.frames):
        of_frame = prepared.inputs.planes.of_frame(frame, layout)
        basis = np.stack([of_frame.u, of_frame.v])[: 1 if kind == "interpolation" else 2]
        for theta, (x, y, off) in zip(weights, marks.places(frame), strict=False):
            wanted, *_ = np.linalg.lstsq(basis.T, theta - of_frame.origin, rcond=None)
            np.testing.assert_allclose([x, y][: len(basis)], wanted, atol=1e-12)
            away = np.linalg.norm(theta - of_frame.origin - wanted @ basis)
            np.testing.assert_allclose(off, away, atol=1e-12)
    # The other group is one of the plane's own weights in all of these but the random one.
    if kind != "random":
        assert marks.places()[10, 2] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("mode", ["recompute", "frozen"])
def test_a_mark_with_batch_norm_has_the_loss_of_plain_torch(tmp_path: Path, mode: str) -> None:
    nets = [_norm_net(seed) for seed in range(4)]
    read = _norm_spec(tmp_path, nets, mode, [{"weights": "epoch-*.pt"}])
    _, store = rendered(read)
    data = naive.two_splits()
    for number, net in enumerate(nets):
        own = nn.utils.parameters_to_vector(net.parameters()).detach().double().numpy()
        zero = np.zeros_like(own)
        at = plane.Plane(own, zero, zero, "euclidean")
        wanted = naive.reference(net, data, at, mode)
        for quantity in ("loss", "error", "loss_stderr"):
            found = StoredMarks(store).values(quantity)[:, number]
            tolerance = 1e-6 if quantity == "loss" else 1e-5
            np.testing.assert_allclose(found, wanted[quantity][:, 0], rtol=tolerance)
    # In frozen mode the statistics are each mark's own, which matters here.
    assert len(set(StoredMarks(store).values("loss")[0].tolist())) == len(nets)


@pytest.mark.parametrize("mode", ["recompute", pytest.param("frozen", marks=pytest.mark.slow)])
def test_marks_leave_the_planes_numbers_as_they_are(tmp_path: Path, mode: str) -> None:
    nets = [_norm_net(seed) for seed in range(4)]
    plain = _norm_spec(tmp_path / "a", nets, mode, [])
    marked = _norm_spec(tmp_path / "b", nets, mode, [{"weights": "epoch-*.pt"}])
    found = []
    for read in (plain, marked):
        prepared, store = rendered(read)
        renderer = TileRenderer(prepared.inputs, store.url)
        for block in StoredMarks(store).blocks():
            renderer(block)
        for tile in store.pending():
            renderer(tile)
        found.append([store.read(q, s) for q in store.quantities for s in store.splits])
    np.testing.assert_array_equal(*found)


def _norm_net(seed: int) -> naive.SmallNet:
    net = naive.small_net()
    torch.manual_seed(seed)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return net


def _norm_spec(
    folder: Path, nets: list[naive.SmallNet], mode: str, marks: list[dict[str, Any]]
) -> RenderSpec:
    folder.mkdir(exist_ok=True)
    for number, net in enumerate(nets):
        torch.save(net.state_dict(), folder / f"epoch-{number}.pt")
    splits = naive.two_splits()
    arrays = {f"x_{name}": x for name, (x, _) in splits.items()}
    np.savez(folder / "data.npz", **arrays, **{f"y_{n}": y for n, (_, y) in splits.items()})
    content = {
        "network": {"factory": f"{naive.__file__}:SmallNet"},
        "plane": {"kind": "points", "weights": [f"epoch-{number}.pt" for number in range(3)]},
        "grid": {"width": 3, "height": 3},
        "data": {"source": "data.npz", "splits": {n: len(x) for n, (x, _) in splits.items()}},
        "evaluate": {"batch_norm": mode},
        "marks": marks,
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(content))
    return spec.read(folder / "spec.yaml")


def test_a_curve_checkpoint_is_its_bend(bowl: MakeSpec, tmp_path: Path) -> None:
    bends = np.random.default_rng(0).standard_normal((3, SIZE)).astype("f4")
    (tmp_path / "run").mkdir()
    for number, bend in enumerate(bends):
        points = [torch.zeros(SIZE), torch.tensor(bend), torch.ones(SIZE)]
        state = {f"net.theta_{k}": point for k, point in enumerate(points)}
        torch.save({"model_state": state}, tmp_path / f"run/bezier-{number}.pt")
    _, store = rendered(bowl(marks=[{"weights": "../run/bezier-*.pt", "line": True}]))
    found = StoredMarks(store).values("loss")[0]
    np.testing.assert_allclose(found, np.mean(bends.astype("f8") ** 2, axis=1), rtol=1e-6)


@pytest.mark.slow
def test_the_states_of_a_real_curve(shared_data: Path, tmp_path: Path) -> None:
    """Own losses of the ten bends are those that plain torch finds, loaded one by one."""
    folder = shared_data / "checkpoints/preresnet20"
    content = {
        "name": "bends",
        "network": {"factory": "preresnet20"},
        "plane": {"kind": "curve", "weights": [str(folder / "bezier-14.pt")]},
        "grid": {"width": 2, "height": 2},
        "data": {
            "source": str(shared_data / "cifar10"),
            "splits": {"train": 64},
            "select": "head",
            "normalise": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]},
        },
        "marks": [{"label": "bends", "weights": str(folder / "bezier-*.pt"), "line": True}],
        "store": str(tmp_path / "bends.zarr"),
    }
    prepared, store = rendered(spec.parse(content))
    marks = StoredMarks(store)
    assert marks.groups[0].numbers == [0, 1, 2, 3, 4, 6, 8, 10, 12, 14]
    assert marks.places()[-1, 2] == pytest.approx(0, abs=1e-4)  # the plane's own bend
    inputs, targets = prepared.inputs.problem.splits["train"]
    for number, epoch in enumerate(marks.groups[0].numbers):
        state = checkpoint.load(str(folder / f"bezier-{epoch:.0f}.pt"))
        net = network.build("preresnet20", {}).double()
        bend = [tensor for name, tensor in state.items() if name.endswith("_1")]
        for parameter, own in zip(net.parameters(), bend, strict=True):
            parameter.data.copy_(own)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train()
        with torch.no_grad():
            outputs = net(torch.tensor(inputs).double())
            wanted = nn.functional.cross_entropy(outputs, torch.tensor(targets))
        assert marks.values("loss")[0, number] == pytest.approx(float(wanted), rel=1e-6)


# Averages


def test_the_mean_is_the_mean(bowl: MakeSpec, tmp_path: Path) -> None:
    weights = trajectory(tmp_path / "run")
    _, store = rendered(bowl(marks=[{"swa": "../run/epoch-*.safetensors"}]))
    found = StoredMarks(store).values("loss")
    np.testing.assert_allclose(found, [[np.mean(weights.mean(axis=0) ** 2)]], rtol=1e-6)
    group = StoredMarks(store).groups[0]
    assert (group.label, group.names, group.numbers) == ("SWA", ["mean"], [None])
    assert group.files == [f"epoch-{number}" for number in range(5)]


def test_a_gaussian_has_the_moments_of_its_weights() -> None:
    # Far from zero, where a mean of squares minus a squared mean loses digits.
    weights = 1e3 + np.random.default_rng(0).standard_normal((40, 7))
    running = RunningGaussian(7, rank=4)
    for each in weights:
        running.add(each)
    found = running.gaussian()
    np.testing.assert_allclose(found.mean, weights.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(found.variance, weights.var(axis=0), rtol=1e-10)
    means = np.cumsum(weights, axis=0) / np.arange(1, 41)[:, None]
    np.testing.assert_allclose(found.deviations, (weights - means)[-4:], rtol=1e-6)
    mean = RunningMean(7)
    for each in weights:
        mean.add(each)
    np.testing.assert_array_equal(mean.mean, found.mean)
    still = RunningGaussian(2, rank=2)
    for _ in range(3):
        still.add(np.ones(2))
    np.testing.assert_array_equal(still.gaussian().variance, 1e-30)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_samples_have_the_covariance_of_the_paper(scale: float) -> None:
    generator = np.random.default_rng(1)
    mean, variance = generator.standard_normal(3), np.array([0.2, 1.0, 3.0])
    deviations = generator.standard_normal((5, 3)).astype("f4")
    gaussian = Gaussian(mean, variance, deviations)
    drawn = np.array([gaussian.sample(scale, 1, number) for number in range(6_000)], "f8")
    d = deviations.astype("f8")
    wanted = scale * (np.diag(variance) + d.T @ d / 4)
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(drawn.T), wanted, atol=0.06 * np.abs(wanted).max())
    np.testing.assert_array_equal(gaussian.sample(scale, 1, 3), drawn[3].astype("f4"))
    assert not np.array_equal(gaussian.sample(scale, 2, 3), drawn[3].astype("f4"))


def test_what_is_drawn_is_what_is_evaluated(bowl: MakeSpec, tmp_path: Path) -> None:
    trajectory(tmp_path / "run")
    swag = {"weights": "../run/epoch-*.safetensors", "rank": 4, "samples": 10, "seed": 3}
    prepared, store = rendered(bowl(marks=[{"swag": swag}]))
    marks = StoredMarks(store)
    sampled = [prepared.inputs.marks.load(n, LAYOUT).weights.astype("f8") for n in range(10)]
    np.testing.assert_allclose(
        marks.values("loss")[0], [np.mean(theta**2) for theta in sampled], rtol=1e-6
    )
    planes = prepared.inputs.planes
    wanted = [planes.of_frame(0, LAYOUT).project(theta) for theta in sampled]
    np.testing.assert_array_equal(marks.places(), wanted)
    assert marks.groups[0].names[0] == "sample 1"


# Files


def test_names_numbers_and_labels(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        trajectory(tmp_path / f"seed-{number}", 1)
    run = tmp_path / "run"
    trajectory(run, 12)
    one = str(run / "epoch-3.safetensors")
    seeds = str(tmp_path / "seed-*/epoch-0.safetensors")
    found = surveyed(
        {"weights": str(run / "epoch-*.safetensors")},
        {"weights": str(run)},
        {"weights": one},
        {"weights": seeds},
        {"weights": [one, str(run / "epoch-0.safetensors")], "label": "two"},
    ).facts
    assert [group["label"] for group in found] == [
        *("run epoch", "run epoch 2", "epoch-3", "epoch", "two"),
    ]
    assert found[0]["names"] == [f"epoch-{number}" for number in range(12)]
    assert found[0]["numbers"] == list(range(12))
    assert sorted(found[3]["names"]) == ["seed-1 epoch-0", "seed-10 epoch-0", "seed-2 epoch-0"]
    assert found[4]["numbers"] == [3, 0]


def test_names_and_labels_are_distinct(bowl: MakeSpec, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    trajectory(run, 3)
    trajectory(other, 3)
    files = [f"{run}/two.ckpt#model", f"{run}/two.ckpt#ema", f"{other}/one.pt", f"{run}/one.pt"]
    assert names_of(files) == ("two#model", "two#ema", "other one", "run one")
    assert names_of([files[0], f"{other}/two.ckpt#model"]) == ("run two#model", "other two#model")
    each = [{"swa": f"{folder}/epoch-*"} for folder in (run, other, run)]
    labels = [group["label"] for group in surveyed(*each, {"weights": str(run)}).facts]
    assert labels == ["run SWA", "other SWA", "run SWA 2", "epoch"]
    twice = [{"weights": str(run), "label": "one"}, {"weights": str(other), "label": "one"}]
    with pytest.raises(SpecError, match=r"marks\[0\] and marks\[1\] are both called one; wanted"):
        bowl(marks=twice)
    content = bowl().model_dump(mode="json") | {"marks": twice}
    assert len(spec.stored(content, "an older store").marks) == 2


@pytest.mark.parametrize(
    ("marks", "told"),
    [
        ("run/*", r"marks: found 'run/\*'; wanted a list of groups. Write marks: \[\{weights: "),
        ([{"swag": "run/*"}], r"marks\[0\].swag: found 'run/\*'; wanted a mapping. Write swag: \{"),
    ],
)
def test_marks_of_another_shape_are_refused_with_the_right_one(
    bowl: MakeSpec, marks: Any, told: str
) -> None:
    with pytest.raises(SpecError, match=told):
        bowl(marks=marks)


@pytest.mark.parametrize("name", ["a" * 240, "new\nline"])
def test_a_file_that_cannot_be_named_is_to_be_renamed(tmp_path: Path, name: str) -> None:
    with pytest.raises(NamingError, match=r"^marks\[0\].weights: .*; .* Rename the file$"):
        surveyed({"weights": [str(tmp_path / f"{name}.pt")]})


def test_files_and_store_behind_urls(bowl: MakeSpec, tmp_path: Path) -> None:
    weights = trajectory(tmp_path, 10)
    for number in range(10):
        content = (tmp_path / f"epoch-{number}.safetensors").read_bytes()
        with fsspec.open(f"memory://marks/run/epoch-{number}.safetensors", "wb") as file:
            file.write(content)
    where = "memory://marks/run/epoch-*.safetensors"
    _, store = rendered(bowl(marks=[{"weights": where}], store="memory://marks/bowl.zarr"))
    marks = StoredMarks(Store.open(store.url, writable=True))
    assert marks.pending() == []
    np.testing.assert_allclose(marks.values("loss")[0], np.mean(weights**2, axis=1), rtol=1e-6)
    marks.withdraw(next(marks.blocks()))
    assert len(marks.pending()) == 1
    assert np.isnan(marks.values("loss")[0, :8]).all()


def test_epochs_in_headers_go_before_numbers_in_names(tmp_path: Path) -> None:
    trajectory(tmp_path, 2)
    for number in range(2):
        facts = {"facts": json.dumps({"epoch": 0.25 * number})}
        path = tmp_path / f"step-{100 * number}.safetensors"
        save_file({"theta": torch.full((SIZE,), float(number))}, path, facts)
    steps, all_ = str(tmp_path / "step-*.safetensors"), str(tmp_path)
    found = surveyed({"weights": steps}, {"weights": all_}).facts
    assert found[0]["numbers"] == [0, 0.25]
    assert found[1]["numbers"] == [0, 0, 1, 100]  # not all files have epochs


def test_files_with_the_same_weights_are_remarked(tmp_path: Path) -> None:
    trajectory(tmp_path, 4)
    save_file({"theta": torch.ones(SIZE)}, tmp_path / "epoch-1.safetensors")
    save_file({"theta": torch.ones(SIZE)}, tmp_path / "epoch-3.safetensors")
    save_file({"theta": torch.ones(SIZE)}, tmp_path / "other.safetensors")
    found = surveyed({"weights": str(tmp_path / "epoch-*")})
    assert found.remarks == ("marks[0]: epoch-1 and epoch-3 have the same weights",)
    assert found.places.shape == (1, 4, 3)
    found = surveyed({"weights": str(tmp_path)}, {"weights": str(tmp_path / "other.safetensors")})
    assert len(found.remarks) == 1
    assert found.remarks[0].endswith("have the same weights, and so have 1 more")


def _refusals(folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    run, pattern = str(folder / "run"), str(folder / "run/epoch-*")
    one = str(folder / "run/epoch-0.safetensors")
    return {
        "nothing": ({"weights": f"{run}/mode-*"}, r"marks\[0\].weights: no checkpoint in .*/mode-"),
        "no folder": ({"weights": f"{run}/none"}, r"marks\[0\].weights: .*/none is no folder"),
        "no file": ({"weights": f"{run}/none.pt"}, r"none.pt: no such file; wanted a checkpoint"),
        "line": ({"weights": one, "line": True}, r"holds 1 checkpoint; wanted at least 2 for a li"),
        "swa": ({"swa": [one]}, r"marks\[0\].swa: the list holds 1 checkpoint; wanted at least 2"),
        "swag": (
            {"swag": {"weights": pattern}},
            r"marks\[0\].swag: .* holds 5 checkpoints; wanted at least 21 for rank: 20, one more",
        ),
        "other": (
            {"weights": str(folder / "other.pt")},
            r"marks\[0\] \(other.pt\) has 7 values and the network 6: not the same network \(fir",
        ),
        "norms": (
            {"weights": str(folder / "norms.pt")},
            r"marks\[0\] \(norms.pt\) .* \(first difference: the checkpoint has norm.weight \(3\),",
        ),
        "nan": ({"weights": str(folder / "nan.pt")}, r"nan.pt: theta holds NaN or inf"),
        "text": ({"weights": str(folder / "text.pt")}, r"text.pt cannot be read as a torch check"),
        "bends": ({"weights": str(folder / "bends.pt")}, r"bends.pt\) is of a curve with 2 bends"),
        "chain": ({"weights": str(folder / "chain.pt")}, r"chain.pt\) is of a curve with 2 bends"),
        "twice": (
            {"weights": str(folder / "twice"), "line": True},
            r"a-1.pt and b-1.pt have the same number; wanted an order",
        ),
        "control": ({"weights": str(folder / "odd")}, r"has a control character in it"),
        "samples": (
            {"swag": {"weights": pattern, "rank": 2, "samples": 10_001}},
            r"marks has 10,001 in 1 group; wanted at most 10,000. Use",
        ),
    }


@pytest.mark.parametrize("what", _refusals(Path()))
def test_bad_input_is_one_line(tmp_path: Path, what: str) -> None:
    trajectory(tmp_path / "run")
    theta = torch.ones(SIZE)
    (tmp_path / "text.pt").write_text("weights")
    contents = {
        "other.pt": {"theta": torch.ones(7)},
        "norms.pt": {"theta": theta, "norm.weight": torch.ones(3)},
        "nan.pt": {"theta": theta * float("nan")},
        "bends.pt": {f"net.theta_{k}": theta for k in (1, 2)},
        "chain.pt": {f"net.theta_{k}": theta for k in range(4)},
        "twice/a-1.pt": {"theta": theta},
        "twice/b-1.pt": {"theta": theta},
        "odd/a\x1b[2J.pt": {"theta": theta},
    }
    for name, state in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save(state, tmp_path / name)
    group, told = _refusals(tmp_path)[what]
    with pytest.raises(LossatlasError, match=told) as error:
        surveyed(group)
    assert "\n" not in str(error.value)


def test_a_pattern_that_matches_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trajectory(tmp_path)
    monkeypatch.setattr("pipeline.geometry.mark_files._MOST_FILES", 4)
    with pytest.raises(LossatlasError, match=r"holds 5 checkpoints; wanted at most 4. Use a narr"):
        surveyed({"weights": str(tmp_path)})


def test_frozen_wants_statistics_of_every_mark(tmp_path: Path) -> None:
    nets = [_norm_net(seed) for seed in range(3)]
    _norm_spec(tmp_path, nets, "frozen", [])
    state = {n: w for n, w in nets[0].state_dict().items() if "running" not in n}
    torch.save(state, tmp_path / "bare.pt")
    told = r"marks\[0\] \(bare.pt\) holds no statistics of batch norms \(norm1.running_mean\), whi"
    with pytest.raises(LossatlasError, match=told):
        prepare.prepare(_norm_spec(tmp_path, nets, "frozen", [{"weights": "bare.pt"}]))
    prepare.prepare(_norm_spec(tmp_path, nets, "recompute", [{"weights": "bare.pt"}]))
    with pytest.raises(LossatlasError, match=r"marks\[0\] asks for swa, and evaluate.batch_norm"):
        prepare.prepare(_norm_spec(tmp_path, nets, "frozen", [{"swa": "epoch-*.pt"}]))


@pytest.mark.parametrize(
    ("tensor", "found"), [([2.0] * SIZE, "its weights differ"), ([1.0], "not the same network")]
)
def test_a_mark_that_was_replaced_meanwhile_is_not_committed(
    bowl: MakeSpec, tmp_path: Path, tensor: list[float], found: str
) -> None:
    trajectory(tmp_path / "run")
    prepared = prepare.prepare(bowl(marks=[{"weights": "../run/epoch-*"}]))
    store, _ = opening.create(prepared, plan.resolve_grid(prepared, 1e-3, 2))
    save_file({"theta": torch.tensor(tensor)}, tmp_path / "run/epoch-2.safetensors")
    renderer = TileRenderer(prepared.inputs, store.url)
    told = rf"^the mark .*/epoch-2.safetensors was replaced .*{found}.* render to a new store$"
    with pytest.raises(InputsChangedError, match=told):
        renderer(StoredMarks(store).pending()[0])
    assert StoredMarks(store).committed() == set()


# What decides the numbers


def test_how_marks_are_drawn_is_not_in_the_fingerprint(bowl: MakeSpec, tmp_path: Path) -> None:
    trajectory(tmp_path / "run")

    def prepared(**group: Any) -> Prepared:
        return prepare.prepare(bowl(marks=[{"weights": "../run/epoch-*"} | group]))

    first = prepared()
    store, _ = opening.create(first, plan.resolve_grid(first, 1e-3, 2))
    drawn = prepared(label="SGD", glyph="plus", colour="crimson", line=True)
    assert drawn.fingerprint == first.fingerprint
    assert opening.match(drawn).url == store.url
    group = StoredMarks(Store.open(store.url)).groups[0]
    assert (group.label, group.glyph, group.colour, group.line) == ("SGD", "plus", "crimson", True)
    save_file({"theta": torch.ones(SIZE)}, tmp_path / "run/epoch-2.safetensors")
    with pytest.raises(LossatlasError, match=r"belongs to another render: marks\[0\].weights: "):
        opening.match(prepared())


def test_what_swag_draws_is_in_the_fingerprint(tmp_path: Path) -> None:
    trajectory(tmp_path / "run")
    asked: dict[str, Any] = {"rank": 4, "samples": 2}
    asked["weights"] = str(tmp_path / "run")
    parts = [
        surveyed({"swag": asked | change}).parts
        for change in ({}, {"rank": 3}, {"samples": 3}, {"scale": 1.0}, {"seed": 1})
    ]
    assert len({json.dumps(each) for each in parts}) == len(parts)
    settings = set(SwagSpec.model_fields) - {"weights"}
    assert {f"marks[0].swag.{name}" for name in settings} < set(parts[0])


def test_a_store_without_marks_has_the_fingerprint_that_it_had(bowl: MakeSpec) -> None:
    prepared = prepare.prepare(bowl())
    assert not [name for name in prepared.parts if "mark" in name]
    assert "marks" not in prepared.facts
    assert prepared.frames[0].marks is None


def test_files_that_came_later_are_left_out_by_resume(bowl: MakeSpec, tmp_path: Path) -> None:
    trajectory(tmp_path / "run")
    groups = [
        {"weights": "../run"},
        {"swa": ["../run/epoch-*"]},
        {"swag": {"weights": "../run/epoch-*", "rank": 3, "samples": 2}},
    ]
    first = prepare.prepare(bowl(marks=groups))
    store, _ = opening.create(first, plan.resolve_grid(first, 1e-3, 2))
    trajectory(tmp_path / "run", 7)
    again = prepare.prepare_resume(store)
    assert again.fingerprint == first.fingerprint
    assert StoredMarks(store).count == 5 + 1 + 2
    (tmp_path / "run/epoch-2.safetensors").unlink()
    with pytest.raises(LossatlasError, match=r"inputs have changed: marks\[0\].files: 5 in the st"):
        prepare.prepare_resume(store)


# Films, and memory


def test_a_film_that_grows_has_its_marks_in_the_new_frames(bowl: MakeSpec, tmp_path: Path) -> None:
    weights = trajectory(tmp_path / "run")
    film = test_growth.Film(bowl, tmp_path, 2, marks=[{"weights": "../run/epoch-*"}])
    prepared = film.prepared()
    store, _ = opening.create(prepared, plan.resolve_grid(prepared, 1e-3, 2))
    for block in StoredMarks(store).pending():
        TileRenderer(prepared.inputs, store.url)(block)
    before = StoredMarks(store).places(1)
    film.add(2, 3)
    prepared = film.prepared()
    grown = StoredMarks(opening.match(prepared))
    assert grown.pending() == []
    np.testing.assert_array_equal(grown.places(1), before)
    planes = prepared.inputs.planes
    for frame in range(4):
        wanted = [planes.of_frame(frame, LAYOUT).project(theta) for theta in weights]
        np.testing.assert_array_equal(grown.places(frame), wanted)


def test_files_are_not_read_once_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks are projected in blocks, and the planes of all frames are read once a block."""
    trajectory(tmp_path / "run", 10)
    bends = [f"{tmp_path}/bend-{k}.safetensors" for k in range(3)]
    for number, path in enumerate(bends):
        save_file({"theta": torch.arange(SIZE) ** (number + 1.0)}, path)
    ends = np.zeros(SIZE), np.ones(SIZE)
    film = film_planes.survey(bends, ends, LAYOUT, "bezier", "common", None).film
    read: list[str] = []
    load = checkpoint.load
    monkeypatch.setattr(
        checkpoint, "load", lambda path, *fits: read.append(path) or load(path, *fits)
    )
    group = {"weights": str(tmp_path / "run")}
    found = surveyed(group, planes=film, frames=3)
    assert len(read) == 10 + 3
    read.clear()
    monkeypatch.setattr("pipeline.geometry.marks_survey._BLOCK_BYTES", 4 * 4 * SIZE)
    np.testing.assert_array_equal(surveyed(group, planes=film, frames=3).places, found.places)
    assert len(read) == 10 + 3 * 3  # blocks of four


def test_the_survey_holds_a_few_weights_at_a_time(tmp_path: Path) -> None:
    size, count = 50_000, 80
    trajectory(tmp_path, count, size)
    layout = Layout.of(Theta(size))
    line = Still(plane.along_line(np.zeros(size), np.ones(size)))
    asked = [
        MarksSpec(weights=str(tmp_path)),
        MarksSpec(swa=str(tmp_path)),
        MarksSpec(swag=SwagSpec(weights=str(tmp_path), rank=2, samples=20)),
    ]
    tracemalloc.start()
    found = marks_survey.survey(asked, line, 1, layout, False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.places.shape == (1, count + 1 + 20, 3)
    assert peak < count / 2 * 4 * size  # half of the files; what is kept are four vectors


def test_workers_get_no_weights_of_files(tmp_path: Path) -> None:
    few, many = (
        surveyed({"weights": str(tmp_path / str(count))})
        for count in (2, 42)
        if trajectory(tmp_path / str(count), count) is not None
    )
    grown = len(pickle.dumps(many.marks)) - len(pickle.dumps(few.marks))
    assert grown / 40 < 400  # a path and a digest

"""Checkpoints: real and made-up ones, and everything that has to be refused."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from torch import nn

from pipeline.problem import checkpoint, state_dict
from pipeline.problem.checkpoint import CheckpointError
from pipeline.problem.layout import Layout
from pipeline.problem.network import build

SHARED = Path(__file__).parents[3] / "shared/data/checkpoints"
real = pytest.mark.skipif(not SHARED.exists(), reason=f"needs the real inputs in {SHARED}")


@pytest.fixture
def net() -> nn.Module:
    return build("cnn", {"width": 2, "batch_norm": True})


def saved(tmp_path: Path, content: object, name: str = "a.pt") -> str:
    path = tmp_path / name
    torch.save(content, path)
    return str(path)


def numbered(
    net: nn.Module, points: int, rename: Callable[[str], str] = str
) -> dict[str, torch.Tensor]:
    """A curve checkpoint of `net`: point k holds the network's weights plus k."""
    state: dict[str, torch.Tensor] = {"coeff_layer.range": torch.arange(float(points))}
    for name, parameter in net.named_parameters():
        for k in range(points):
            state[f"net.{rename(name)}_{k}"] = parameter.detach() + k
    return state | {f"net.{name}": buffer for name, buffer in net.named_buffers()}


@pytest.mark.parametrize("nest", ["", "state_dict", "model_state", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_nesting_and_wrappers_are_undone(
    tmp_path: Path, net: nn.Module, nest: str, prefix: str
) -> None:
    state = {prefix + name: tensor for name, tensor in net.state_dict().items()}
    path = saved(tmp_path, {"epoch": 3, nest: state, "optimizer": {"lr": 0.1}} if nest else state)
    read = checkpoint.load(path)
    state_dict.match(read, Layout.of(net), "a")
    flat = state_dict.weights(read, Layout.of(net))
    assert flat.dtype == np.float32
    expected = torch.cat([p.detach().flatten() for p in net.parameters()])
    np.testing.assert_array_equal(flat, expected.numpy())


def test_weights_and_named_are_inverse(net: nn.Module) -> None:
    flat = np.arange(sum(p.numel() for p in net.parameters()), dtype=np.float32)
    state = state_dict.named(flat, Layout.of(net))
    assert {n: t.shape for n, t in state.items()} == {n: p.shape for n, p in net.named_parameters()}
    np.testing.assert_array_equal(state_dict.weights(state, Layout.of(net)), flat)
    flat[:] = 0
    assert state_dict.weights(state, Layout.of(net)).any()


def test_buffers_have_the_networks_names_and_dtypes(net: nn.Module) -> None:
    state = {n: t.clone() for n, t in net.state_dict().items()}
    state["bn2.running_var"] += 4
    del state["bn1.num_batches_tracked"]
    state["bn2.num_batches_tracked"] += 9
    state_dict.match(state, Layout.of(net), "a")
    found = state_dict.buffers(state, net)
    assert found.keys() == {name for name, _ in net.named_buffers()}
    assert (found["bn2.running_var"] == 5).all()
    assert found["bn1.num_batches_tracked"] == 0
    assert found["bn2.num_batches_tracked"] == 9
    assert found["bn2.num_batches_tracked"].dtype == torch.int64
    found["bn2.running_var"].zero_()
    assert (state["bn2.running_var"] == 5).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(tmp_path: Path, net: nn.Module, dtype: torch.dtype) -> None:
    """Those of float64 do in the weights of a float32 network."""
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in net.state_dict().items()}
    read = checkpoint.load(saved(tmp_path, state))
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    assert {t.dtype for t in read.values()} == {kept, torch.int64}
    state_dict.match(read, Layout.of(net), "a")
    assert state_dict.weights(read, Layout.of(net)).dtype == np.float32


def test_safetensors_and_urls(tmp_path: Path, net: nn.Module) -> None:
    path = str(tmp_path / "a.safetensors")
    checkpoint.save(path, net.state_dict())
    assert os.listdir(tmp_path) == ["a.safetensors"]
    content = Path(path).read_bytes()
    with fsspec.open("memory://weights/a.safetensors", "wb") as file:
        file.write(content)
    for place in (path, "memory://weights/a.safetensors"):
        read = checkpoint.load(place)
        state_dict.match(read, Layout.of(net), "a")
        expected = state_dict.weights(net.state_dict(), Layout.of(net))
        np.testing.assert_array_equal(state_dict.weights(read, Layout.of(net)), expected)
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoint.load("memory://weights/b.safetensors")


def test_tied_weights_may_be_saved_once_or_twice(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    path = str(tmp_path / "tied.safetensors")
    checkpoint.save(path, tied.state_dict())
    read = checkpoint.load(path)
    state_dict.match(read, Layout.of(tied), "a")
    assert state_dict.weights(read, Layout.of(tied)).shape == (9 + 3 + 3,)
    only_other = {name: tensor for name, tensor in read.items() if name != "0.weight"}
    state_dict.match(only_other, Layout.of(tied), "a")
    np.testing.assert_array_equal(
        state_dict.weights(only_other, Layout.of(tied)), state_dict.weights(read, Layout.of(tied))
    )
    read["1.weight"] = read["1.weight"] + 1
    with pytest.raises(CheckpointError, match=r"0\.weight and 1\.weight differ"):
        state_dict.match(read, Layout.of(tied), "a")


def test_networks_that_are_wrappers_themselves(tmp_path: Path, net: nn.Module) -> None:
    wrapped = nn.DataParallel(net)
    read = checkpoint.load(saved(tmp_path, wrapped.state_dict()))
    for target in (wrapped, net):
        layout = Layout.of(target)
        state_dict.match(read, layout, "a")
        assert state_dict.buffers(read, target).keys() == dict(target.named_buffers()).keys()
        assert state_dict.weights(read, layout).size == layout.size == Layout.of(net).size


def test_buffers_that_are_not_saved_are_not_wanted(net: nn.Module) -> None:
    state = dict(net.state_dict())
    net.register_buffer("scratch", torch.zeros(2), persistent=False)
    state_dict.match(state, Layout.of(net), "a")
    assert "scratch" not in state_dict.buffers(state, net)


@pytest.mark.parametrize("points", [2, 3, 5])
def test_curves_of_any_number_of_bends(tmp_path: Path, net: nn.Module, points: int) -> None:
    read = checkpoint.load(saved(tmp_path, {"model_state": numbered(net, points)}))
    assert state_dict.is_curve(read, Layout.of(net))
    found = state_dict.curve_points(read, Layout.of(net), "a")
    start = state_dict.weights(net.state_dict(), Layout.of(net))
    assert len(found) == points
    for k, point in enumerate(found):
        assert point.dtype == np.float32
        np.testing.assert_allclose(point, start + k, rtol=0, atol=1e-6)
    assert state_dict.buffers(read, net).keys() == dict(net.named_buffers()).keys()
    with pytest.raises(CheckpointError, match=r"a is a curve checkpoint; .*plane\.kind: curve"):
        state_dict.match(read, Layout.of(net), "a")


def test_a_curve_that_names_its_modules_otherwise(tmp_path: Path) -> None:
    net = build("preresnet20", {})
    renamed = numbered(net, 3, lambda name: name.replace("downsample.0", "downsample"))
    read = checkpoint.load(saved(tmp_path, renamed))
    _, bend, _ = state_dict.curve_points(read, Layout.of(net), "a")
    expected = state_dict.weights(net.state_dict(), Layout.of(net)) + 1
    np.testing.assert_allclose(bend, expected, rtol=0, atol=1e-6)
    # A file whose names are sorted has lost the order, and with it what belongs to what.
    with pytest.raises(
        CheckpointError, match=r"downsample\.0\.weight \(32,16,1,1\), the checkpoint not"
    ):
        state_dict.curve_points(dict(sorted(read.items())), Layout.of(net), "a")


def test_curves_in_safetensors_are_matched_by_name(tmp_path: Path, net: nn.Module) -> None:
    path = str(tmp_path / "curve.safetensors")
    checkpoint.save(path, numbered(net, 3))
    assert len(state_dict.curve_points(checkpoint.load(path), Layout.of(net), "a")) == 3


def test_curves_of_another_network(tmp_path: Path, net: nn.Module) -> None:
    read = checkpoint.load(saved(tmp_path, numbered(build("cnn", {"width": 4}), 3)))
    message = (
        r"a has 1,746 values and the network 532: .*first difference: the checkpoint has "
        r"conv1.weight \(4,3,3,3\), the network conv1.weight \(2,3,3,3\)"
    )
    with pytest.raises(CheckpointError, match=message):
        state_dict.curve_points(read, Layout.of(net), "a")
    with pytest.raises(CheckpointError, match="a is one set of weights; wanted a curve"):
        state_dict.curve_points(net.state_dict(), Layout.of(net), "a")
    extra = numbered(net, 3) | {f"net.fc2.bias_{k}": torch.zeros(3) for k in range(3)}
    with pytest.raises(CheckpointError, match=r"has fc2\.bias \(3\), the network not; nearest"):
        state_dict.curve_points(checkpoint.load(saved(tmp_path, extra)), Layout.of(net), "a")


def test_what_only_looks_like_a_curve() -> None:
    one, other = torch.zeros(2), nn.Linear(2, 2)
    assert not state_dict.is_curve({"fc_0": one}, Layout.of(other))
    assert not state_dict.is_curve({"fc_0": one, "fc_2": one}, Layout.of(other))
    assert not state_dict.is_curve({"fc_0": one, "fc_1": one, "out": one}, Layout.of(other))
    assert not state_dict.is_curve({"fc_0": one, "fc_1": torch.zeros(3)}, Layout.of(other))
    assert not state_dict.is_curve({"fc_0": one, "fc_1": one, "out_0": one}, Layout.of(other))
    assert state_dict.is_curve({"fc_0": one, "fc_1": one, "bn.running_mean": one}, Layout.of(other))


class Named(nn.Module):
    """Parameters and buffers by names that it is told."""

    def __init__(self, parameters: list[str], buffers: list[str] = []) -> None:  # noqa: B006
        super().__init__()
        for name in parameters + buffers:
            *path, leaf = name.split(".")
            at: nn.Module = self
            for part in path:
                if not hasattr(at, part):
                    at.add_module(part, nn.Module())
                at = getattr(at, part)
            if name in buffers:
                at.register_buffer(leaf, torch.zeros(1))
            else:
                at.register_parameter(leaf, nn.Parameter(torch.rand(2)))


USERS = [
    Named(["net.a", "net.b"]),
    Named(["net.net.a"]),
    Named(["module.a", "module.net.b"]),
    Named(["module._orig_mod.a"]),
    Named(["w_0", "w_1"]),
    Named(["coeff_layer.range", "coeff_layer.binom"]),
    Named(["a_0", "a_1", "a_2"], ["table_0", "bn.running_mean"]),
    nn.DataParallel(Named(["module.net.a"])),
]


@pytest.mark.parametrize("net", USERS)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_no_name_is_reserved(tmp_path: Path, net: nn.Module, prefix: str) -> None:
    """What is a prefix is decided by the network's own names."""
    flat = torch.cat([p.detach() for p in net.parameters()]).numpy()
    state = checkpoint.load(
        saved(tmp_path, {prefix + name: tensor for name, tensor in net.state_dict().items()})
    )
    state_dict.match(state, Layout.of(net), "a")
    np.testing.assert_array_equal(state_dict.weights(state, Layout.of(net)), flat)
    assert state_dict.buffers(state, net).keys() == dict(net.named_buffers()).keys()
    curve = {prefix + name: tensor for name, tensor in numbered(net, 3).items()}
    read = checkpoint.load(saved(tmp_path, curve, "curve.pt"))
    assert state_dict.constants(read) == {"coeff_layer.range"}
    start, bend, _ = state_dict.curve_points(read, Layout.of(net), "a")
    np.testing.assert_array_equal(start, flat)
    np.testing.assert_array_equal(bend, flat + 1)


def test_averaged_models(tmp_path: Path, net: nn.Module) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(net)
    read = checkpoint.load(saved(tmp_path, averaged.state_dict()))
    state_dict.match(read, Layout.of(net), "a")
    expected = torch.cat([p.detach().flatten() for p in net.parameters()])
    np.testing.assert_array_equal(state_dict.weights(read, Layout.of(net)), expected.numpy())


def test_batch_norms_statistics_may_be_missing_and_no_others() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    state = {name: t for name, t in net.state_dict().items() if "running" not in name}
    state_dict.match(state, Layout.of(net), "a")
    assert state_dict.missing_statistic(state, Layout.of(net)) == "1.running_mean"
    net = nn.Sequential(nn.Conv1d(2, 2, 1), nn.InstanceNorm1d(2, track_running_stats=True))
    state = {name: t for name, t in net.state_dict().items() if "running" not in name}
    with pytest.raises(CheckpointError, match=r"1\.running_mean \(2\), the checkpoint not"):
        state_dict.match(state, Layout.of(net), "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"fc.weight": torch.zeros(10, 9), "fc.bias": None},
            r"^w has \d+ values and the network \d+: not the same network "
            r"\(first difference: the checkpoint has fc.weight \(10,9\), the network fc.weight "
            r"\(10,8\)\)\. Check network.factory",
        ),
        (
            {"fc.bias": None},
            r"first difference: the network has fc\.bias \(10\), the checkpoint not; nearest",
        ),
        (
            {"bn1.running_var": torch.ones(3)},
            r"has bn1\.running_var \(3\), the network bn1\.running_var \(2\)",
        ),
        (
            {"fc2.bias": torch.zeros(3)},
            r"has fc2\.bias \(3\), the network not; nearest there: fc\.bias \(10\)",
        ),
    ],
)
def test_another_networks_weights(
    net: nn.Module, change: dict[str, torch.Tensor | None], message: str
) -> None:
    state = net.state_dict() | change
    with pytest.raises(CheckpointError, match=message) as caught:
        state_dict.match({n: t for n, t in state.items() if t is not None}, Layout.of(net), "w")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    bad = torch.tensor([1.0, value], dtype=torch.float64)
    path = saved(tmp_path, {"good": torch.ones(2), "fc.weight": bad})
    with pytest.raises(CheckpointError, match=r"fc\.weight holds NaN or inf; wanted finite"):
        checkpoint.load(path)


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("raw", [False, True])
def test_a_malicious_pickle_never_runs(tmp_path: Path, raw: bool) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "owned"
    content = {"state_dict": Malicious(trace)}
    if raw:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert raw or "evil.pt holds posix.system, which could run code, and was refused" in message
    assert not trace.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path, net: nn.Module) -> None:
    with pytest.raises(
        CheckpointError, match=r"holds pipeline\.problem\.networks\.small\.CNN, which could"
    ):
        checkpoint.load(saved(tmp_path, net))


@pytest.mark.parametrize("name", ["a.pt", "a.th", "a.safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 0.5, -1])
def test_truncated_files(tmp_path: Path, net: nn.Module, name: str, keep: float) -> None:
    path = tmp_path / name
    if name == "a.safetensors":
        checkpoint.save(str(path), net.state_dict())
    else:
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=name == "a.pt")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r"whole .*Copy") as caught:
        checkpoint.load(str(path))
    assert "\n" not in str(caught.value)


LOOP: dict[str, object] = {"epoch": 1}
LOOP["model"] = LOOP


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds list; wanted named tensors"),
        (torch.zeros(2), "holds Tensor; wanted named tensors"),
        ({"epoch": 3}, "holds no tensors under epoch; wanted a state dict"),
        ({}, "holds no tensors under no name"),
        ({"a": torch.eye(2).to_sparse()}, "torch.sparse_coo; wanted a dense tensor"),
        ({"a": torch.zeros(2, device="meta")}, "a is a meta tensor, which has a shape and no val"),
        (LOOP, "holds a dict that contains itself, under model; wanted a state dict"),
        ({"net": LOOP}, "holds a dict that contains itself, under model"),
    ],
)
def test_files_of_other_things(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(saved(tmp_path, content))


def test_paths_that_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    for name, message in {
        "folder.pt": "is a folder; wanted a checkpoint file, .* It holds nothing",
        "gone.pt": "no such file; wanted a checkpoint",
        "gone": "no such file; wanted a checkpoint",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load(str(tmp_path / name))
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load("nosuchscheme://bucket/a.pt")


def test_saving_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(str(path), {"a": torch.ones(2, 3).T})
    before = path.read_bytes()

    def full(_: Path, __: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device\)"):
            checkpoint.save(str(path), {"a": torch.zeros(9)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]
    assert checkpoint.load(str(path))["a"].shape == (3, 2)
    for wrong in ("memory://a.safetensors", str(tmp_path / "a.pt")):
        with pytest.raises(CheckpointError, match="wanted a local path ending in"):
            checkpoint.save(wrong, {})
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save(str(tmp_path / "gone/a.safetensors"), {})


@real
@pytest.mark.parametrize("epoch", [0, 1, 14])
def test_the_real_curve_runs_between_the_real_modes(epoch: int) -> None:
    net = build("preresnet20", {})
    curve = checkpoint.load(str(SHARED / f"preresnet20/bezier-{epoch}.pt"))
    start, bend, end = state_dict.curve_points(curve, Layout.of(net), "curve")
    for mode, point in ((1, start), (2, end)):
        state = checkpoint.load(str(SHARED / f"preresnet20/mode{mode}-14.pt"))
        state_dict.match(state, Layout.of(net), "mode")
        np.testing.assert_array_equal(state_dict.weights(state, Layout.of(net)), point)
    off = np.linalg.norm(bend - (start + end) / 2)
    assert off < 1e-3 if epoch == 0 else off > 1


@real
def test_real_checkpoints_of_another_network() -> None:
    state = checkpoint.load(str(SHARED / "resnet-cifar10/resnet20-12fca82f.th"))
    message = (
        r"plane.weights\[1\] has 269,722 values and the network 272,282: not the same network "
        r"\(first difference: the checkpoint has layer2.0.bn1.weight \(32\), the network "
        r"layer2.0.bn1.weight \(16\)\)"
    )
    with pytest.raises(CheckpointError, match=message):
        state_dict.match(state, Layout.of(build("preresnet20", {})), "plane.weights[1]")

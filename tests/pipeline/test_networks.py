"""Networks: the built-in ones against real checkpoints and published sizes, and `build`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from pipeline.problem import checkpoint, data, network, state_dict, usercode
from pipeline.problem.layout import Layout
from pipeline.problem.network import NetworkError, build
from pipeline.problem.networks.resnet import BasicBlock
from pipeline.problem.usercode import UserCodeError
from pipeline.spec import DataSpec, NormaliseSpec

SHARED = Path(__file__).parents[3] / "shared/data"
real = pytest.mark.skipif(not SHARED.exists(), reason=f"needs the real inputs in {SHARED}")


def trained(factory: str, file: str) -> torch.nn.Module:
    net = build(factory, {})
    state = checkpoint.load(str(SHARED / "checkpoints" / file))
    state_dict.match(state, Layout.of(net), file)
    weights = state_dict.named(state_dict.weights(state, Layout.of(net)), Layout.of(net))
    net.load_state_dict(weights | state_dict.buffers(state, net))
    return net


def error_and_loss(net: torch.nn.Module, examples: data.Subsample) -> tuple[float, float]:
    targets = torch.from_numpy(examples.targets)
    with torch.no_grad():
        batches = torch.from_numpy(examples.inputs).split(250)
        logits = torch.cat([net(batch) for batch in batches]).double()
    wrong = (logits.argmax(1) != targets).double().mean()
    return float(wrong), float(functional.cross_entropy(logits, targets))


@real
@pytest.mark.parametrize(
    ("factory", "file"),
    [
        ("resnet20", "resnet-cifar10/resnet20-12fca82f.th"),
        ("resnet32", "resnet-cifar10/resnet32-d509ac18.th"),
        ("resnet44", "resnet-cifar10/resnet44-014dd654.th"),
        ("resnet56", "resnet-cifar10/resnet56-4bfd9763.th"),
        ("preresnet20", "preresnet20/mode1-14.pt"),
        ("preresnet20", "preresnet20/mode2-14.pt"),
    ],
)
def test_real_checkpoints_fit(factory: str, file: str) -> None:
    trained(factory, file)


@real
@pytest.mark.slow
def test_resnet20_on_all_test_images() -> None:
    normalise = NormaliseSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    spec = DataSpec(
        source=str(SHARED / "cifar10"), splits={"test": 10_000}, select="head", normalise=normalise
    )
    (test,) = data.load(spec)
    error, loss = error_and_loss(trained("resnet20", "resnet-cifar10/resnet20-12fca82f.th"), test)
    assert error == pytest.approx(0.1897, abs=1e-4)
    assert loss == pytest.approx(0.8788, abs=1e-4)


@real
def test_preresnet20_modes_classify() -> None:
    normalise = NormaliseSpec(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
    spec = DataSpec(
        source=str(SHARED / "cifar10/test.parquet"),
        splits={"test": 512},
        select="head",
        normalise=normalise,
    )
    (test,) = data.load(spec)
    error, loss = error_and_loss(trained("preresnet20", "preresnet20/mode1-14.pt"), test)
    assert error == pytest.approx(169 / 512, abs=2 / 512)
    assert loss == pytest.approx(0.9250, abs=1e-3)


@pytest.mark.parametrize(
    ("factory", "parameters"),
    [  # ResNets: the counts of the published CIFAR-10 checkpoints; the others: by hand.
        ("resnet20", 269_722),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
        ("preresnet20", 272_282),
        ("preresnet110", 1_146_842),
        ("preresnet164", 1_703_258),
        ("vgg16", 15_253_578),
        ("mlp", 79_510),
    ],
)
def test_sizes(factory: str, parameters: int) -> None:
    assert sum(p.numel() for p in build(factory, {}).parameters()) == parameters


@pytest.mark.parametrize("factory", list(network.BUILT_IN))
def test_every_built_in_network_runs(factory: str) -> None:
    net = build(factory, {"classes": 7})
    assert not net.training
    assert {t.dtype for t in net.parameters()} == {torch.float32}
    shape = (2, 784) if factory == "mlp" else (2, 3, 32, 32)
    with torch.no_grad():
        assert net(torch.randn(shape)).shape == (2, 7)


def test_without_shortcuts_only_the_function_differs() -> None:
    with_skip, without = build("resnet56", {}), build("resnet56", {"skip": False})
    assert list(with_skip.state_dict()) == list(without.state_dict())
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(with_skip(x), without(x))


def test_option_a_shortcut_strides_and_pads_with_zero_channels() -> None:
    block = BasicBlock(16, 32, stride=2, skip=True).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(1, 16, 8, 8)
    with torch.no_grad():
        out = block(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_preresnets_are_bottlenecks_from_56_on() -> None:
    assert "layer1.0.conv3.weight" not in build("preresnet44", {}).state_dict()
    assert "layer1.0.conv3.weight" in build("preresnet56", {}).state_dict()
    assert build("preresnet56", {}).get_parameter("layer1.0.downsample.0.weight").shape[0] == 64


def test_small_networks_take_small_inputs() -> None:
    with torch.no_grad():
        grey = build("cnn", {"channels": 1, "batch_norm": True})
        assert grey(torch.randn(2, 1, 28, 28)).shape == (2, 10)
        linear = build("mlp", {"inputs": 3, "hidden": [], "classes": 1, "bias": False})
        assert linear(torch.ones(2, 3)).shape == (2, 1)
        deep = build("mlp", {"inputs": 4, "hidden": [5, 6], "activation": "tanh"})
        assert deep(torch.ones(2, 2, 2)).shape == (2, 10)
    assert [n for n, _ in linear.named_parameters()] == ["layers.0.weight"]


def test_vgg16_has_the_layout_of_the_imagenet_network() -> None:
    state = build("vgg16", {}).state_dict()
    assert state["features.40.weight"].shape == (512, 512, 3, 3)
    assert state["features.41.running_var"].shape == (512,)
    assert state["classifier.6.bias"].shape == (10,)


def test_initial_weights_are_fixed_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = build("cnn", {}), build("cnn", {})
    assert torch.equal(torch.rand(1), expected)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_installed_callable() -> None:
    net = build("torch.nn:Linear", {"in_features": 2, "out_features": 3})
    assert isinstance(net, torch.nn.Linear)
    assert usercode.source_of("torch.nn:Linear") is None
    assert usercode.source_of("resnet20") is None


def test_user_network_is_built_from_its_source_alone(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(
        "import torch\n\ndef build(units):\n    return torch.nn.Linear(2, units).half()\n"
    )
    factory = f"{file}:build"
    code = usercode.source_of(factory)
    assert code is not None
    file.unlink()
    net = build(factory, {"units": 4}, code)
    assert net.weight.dtype == torch.float32
    with pytest.raises(UserCodeError, match="no such file"):
        build(factory, {"units": 4})


USER = """
import torch
def dictionary(): return {}
def broken(): return torch.nn.Linear(2, "three")
def lazy(): return torch.nn.LazyLinear(3)
def hollow(): return torch.nn.ReLU()
def zero(): return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Embedding(0, 2))
"""


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(
    ("factory", "kwargs", "message"),
    [
        ("resnet21", {}, r"resnet21 is not built in; .* Did you mean resnet\d\d\?"),
        ("ResNet56", {}, r"Did you mean resnet56\?"),
        ("transformer-xl", {}, "Built in are resnet20, resnet32"),
        ("resnet20", {"clases": 10}, r"unknown clases; resnet20 takes classes, .*mean classes\?"),
        ("resnet20", {"depth": 32}, "unknown depth; resnet20 takes classes, skip, channels"),
        ("resnet20", {"classes": "ten"}, "network.factory resnet20 raised TypeError"),
        ("mlp", {"activation": "gelu"}, "raised ValueError: activation 'gelu'; wanted relu"),
        ("torch.nn:Linear", {"in_features": 2}, "no out_features; torch.nn:Linear takes"),
        ("torch.nn:Liner", {}, r"torch.nn has no callable Liner; wanted one. .*mean Linear\?"),
        ("no_such_package.nets:make", {}, "importing no_such_package.nets raised Module"),
        ("USER:dictionary", {}, "returned dict; wanted a torch.nn.Module"),
        ("USER:broken", {}, r"raised TypeError: .* \(model.py line 4\)"),
        ("USER:lazy", {}, "weight has no shape until the first forward"),
        ("USER:hollow", {}, "has no parameters"),
        ("USER:zero", {}, r"1.weight has shape \(0, 2\), so no values"),
    ],
)
def test_what_cannot_be_built(
    tmp_path: Path, factory: str, kwargs: dict[str, object], message: str
) -> None:
    file = tmp_path / "model.py"
    file.write_text(USER)
    with pytest.raises(NetworkError, match=message) as caught:
        build(factory.replace("USER", str(file)), kwargs)
    assert "\n" not in str(caught.value)


def test_torch_and_numpy_are_enough() -> None:
    banned = ("pydantic", "yaml", "zarr", "ray", "pyarrow", "PIL", "safetensors")
    program = f"""
import sys
for name in {banned!r}:
    sys.modules[name] = None
from pipeline.problem import checkpoint
from pipeline.problem import data
from pipeline.problem import network
print(network.build("preresnet20", {{}})(__import__("torch").zeros(1, 3, 32, 32)).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(network.__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    assert "[1, 10]" in done.stdout

"""Checkpoints as other programs leave them: nested, prefixed, divided; and what is none."""

from __future__ import annotations

import argparse
import collections
import io
import itertools
import json
import pathlib
import pickle
import sys
import tarfile
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pipeline import memory
from pipeline.checkpoints import tensors
from pipeline.checkpoints.place import Place, stem
from pipeline.geometry import film_planes
from pipeline.memory import RoomError
from pipeline.problem import checkpoint, state_dict
from pipeline.problem.checkpoint import CheckpointError
from pipeline.problem.layout import Layout
from pipeline.problem.network import build

State = dict[str, torch.Tensor]


@pytest.fixture
def net() -> nn.Module:
    return build("cnn", {"width": 2, "batch_norm": True})


@pytest.fixture
def layout(net: nn.Module) -> Layout:
    return Layout.of(net)


def saved(tmp_path: Path, content: object, name: str = "a.pt") -> str:
    path = tmp_path / name
    torch.save(content, path)
    return str(path)


def shifted(net: nn.Module, by: float = 1.0) -> State:
    """Another state of `net`: all its floats are larger by `by`."""
    return {n: t + by if t.is_floating_point() else t for n, t in net.state_dict().items()}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def expect(path: str, layout: Layout, state: State) -> str:
    """See that a checkpoint holds the weights of `state`; what is said of it."""
    read = state_dict.load(path, layout)
    state_dict.match(read, layout, "a")
    expected = state_dict.weights(state, layout)
    np.testing.assert_array_equal(state_dict.weights(read, layout), expected)
    return state_dict.told(read, layout)


# Names


@pytest.mark.parametrize(
    "prefix", ["model.", "net.", "module.", "model._orig_mod.", "encoder.backbone.", "model.model."]
)
def test_the_beginning_that_all_names_share_is_taken_off_and_said(
    tmp_path: Path, net: nn.Module, layout: Layout, prefix: str
) -> None:
    state = prefixed(net.state_dict(), prefix)
    assert expect(saved(tmp_path, state), layout, net.state_dict()) == f"names without {prefix}"


def test_wrappers_inside_a_name(tmp_path: Path) -> None:
    net = nn.ModuleDict({"features": nn.Sequential(nn.Linear(2, 2)), "top": nn.Linear(2, 1)})
    wrapped = nn.ModuleDict({"features": nn.DataParallel(net["features"]), "top": net["top"]})
    assert "features.module.0.weight" in wrapped.state_dict()
    path = saved(tmp_path, wrapped.state_dict())
    told = expect(path, Layout.of(net), net.state_dict())
    assert told == "features.module.0.weight as features.0.weight"
    path = saved(tmp_path, net.state_dict())
    assert expect(path, Layout.of(wrapped), wrapped.state_dict()).endswith("0.weight")


def test_a_network_that_has_the_beginning_itself(tmp_path: Path, net: nn.Module) -> None:
    whole = nn.ModuleDict({"model": net})
    expect(saved(tmp_path, net.state_dict()), Layout.of(whole), whole.state_dict())


def test_averaged_and_compiled_models(tmp_path: Path, net: nn.Module, layout: Layout) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(net)
    # As torch.compile names them, which takes four seconds to import.
    state = prefixed(nn.ModuleDict({"model": averaged}).state_dict(), "_orig_mod.")
    assert "_orig_mod.model.n_averaged" in state
    told = expect(saved(tmp_path, state), layout, net.state_dict())
    assert told == "names without _orig_mod.model.module."


def test_plain_names_say_nothing(tmp_path: Path, net: nn.Module, layout: Layout) -> None:
    assert expect(saved(tmp_path, net.state_dict()), layout, net.state_dict()) == ""
    content = {"epoch": 3, "state_dict": net.state_dict()}
    assert expect(saved(tmp_path, content), layout, net.state_dict()) == ""


def test_one_network_among_others_is_named_in_the_cure(
    tmp_path: Path, net: nn.Module, layout: Layout
) -> None:
    both = prefixed(net.state_dict(), "student.") | prefixed(shifted(net), "teacher.")
    path = saved(tmp_path, {"state_dict": both})
    with pytest.raises(CheckpointError, match=r"is in its part #student or #teacher: write"):
        state_dict.match(state_dict.load(path, layout), layout, "a")
    expect(f"{path}#teacher", layout, shifted(net))
    expect(f"{path}#state_dict.teacher", layout, shifted(net))
    extra = prefixed(net.state_dict(), "model.") | {"criterion.weight": torch.ones(3)}
    path = saved(tmp_path, extra)
    with pytest.raises(CheckpointError, match=r"in its part #model: write that after the path"):
        state_dict.match(state_dict.load(path, layout), layout, "a")
    expect(f"{path}#model", layout, net.state_dict())


def test_the_nearest_on_both_sides_is_named() -> None:
    net = nn.Sequential(collections.OrderedDict(conv1=nn.Conv2d(3, 4, 3), fc=nn.Linear(4, 2)))
    state = {"conv_1.weight": torch.zeros(4, 3, 3, 3), "head.bias": torch.zeros(9)}
    with pytest.raises(
        CheckpointError,
        match=r"has conv1\.weight \(4,3,3,3\), the checkpoint not; nearest there: "
        r"conv_1\.weight \(4,3,3,3\)\)",
    ):
        state_dict.match(state, Layout.of(net), "a")


# Nests


def test_a_nest_is_chosen_by_its_name(tmp_path: Path, net: nn.Module, layout: Layout) -> None:
    content = {
        "model": {"state_dict": net.state_dict(), "ema": shifted(net)},
        "ema.v2": shifted(net, 2),
        "average": {"state_dict": shifted(net, 3)},
    }
    path = saved(tmp_path, content)
    for nest, by in {"model.ema": 1, "ema.v2": 2, "average": 3, "model": 0}.items():
        expect(f"{path}#{nest}", layout, shifted(net, by))
    fs_path = "memory://nests/last.ckpt"
    with fsspec.open(fs_path, "wb") as file:
        file.write(Path(path).read_bytes())
    expect(f"{fs_path}#model.ema", layout, shifted(net))


def test_a_nest_that_is_not_there(tmp_path: Path, net: nn.Module) -> None:
    path = saved(tmp_path, {"model": net.state_dict(), "model_ema": shifted(net)})
    with pytest.raises(CheckpointError, match=r"no tensors under ema; .*#model_ema") as caught:
        checkpoint.load(f"{path}#ema")
    assert "\n" not in str(caught.value)
    path = saved(tmp_path, {"a": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"under ema; wanted no part of it"):
        checkpoint.load(f"{path}#ema")


def test_the_only_nest_that_fits_is_taken_and_said(
    tmp_path: Path, net: nn.Module, layout: Layout
) -> None:
    other = build("cnn", {"width": 4}).state_dict()
    path = saved(tmp_path, {"generator": net.state_dict(), "discriminator": other, "epoch": 3})
    assert expect(path, layout, net.state_dict()) == "taken from generator"
    path = saved(tmp_path, {"model": other, "student": prefixed(net.state_dict(), "net.")})
    told = expect(path, layout, net.state_dict())
    assert told == "taken from student, names without net."
    with pytest.raises(CheckpointError, match=r"in 2 places; .*a\.pt#generator, a\.pt#discrim"):
        checkpoint.load(saved(tmp_path, {"generator": net.state_dict(), "discriminator": other}))


def test_several_nests_that_fit(tmp_path: Path, net: nn.Module, layout: Layout) -> None:
    """The usual one is taken, as it always was, and the others are named; else none is."""
    path = saved(tmp_path, {"state_dict": net.state_dict(), "ema": shifted(net)})
    told = expect(path, layout, net.state_dict())
    assert told == "taken from state_dict (also there: #ema)"
    path = saved(tmp_path, {"ema": shifted(net), "online": net.state_dict()})
    with pytest.raises(CheckpointError, match=r"in 2 places; .* Write a\.pt#ema, a\.pt#online$"):
        state_dict.load(path, layout)


def test_the_state_of_an_optimizer_is_no_nest(
    tmp_path: Path, net: nn.Module, layout: Layout
) -> None:
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.rand(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    content = {"weights": net.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoint.load(saved(tmp_path, content))
    assert expect(saved(tmp_path, content), layout, net.state_dict()) == "taken from weights"


def test_paths_with_a_sharp_of_their_own(tmp_path: Path, net: nn.Module, layout: Layout) -> None:
    (tmp_path / "run#1").mkdir()
    expect(saved(tmp_path / "run#1", net.state_dict()), layout, net.state_dict())
    path = saved(tmp_path, {"ema": shifted(net)}, "a#1.pt")
    assert Place.of(path) == Place(path, "")
    expect(f"{path}#ema", layout, shifted(net))
    assert Place.of("s3://b/a#1.pt") == Place("s3://b/a#1.pt", "")
    assert Place.of("s3://b/a.pt#x.y") == Place("s3://b/a.pt", "x.y")
    assert stem("run/epoch-3.pth.tar#model.ema") == "epoch-3"


def test_frames_may_name_a_nest(tmp_path: Path) -> None:
    for epoch in (10, 2):
        (tmp_path / f"e-{epoch}.pth.tar").touch()
    for frames in (f"{tmp_path}#ema.model", f"{tmp_path}/e-*#ema.model"):
        paths = film_planes.listing(frames)
        assert [Path(p).name for p in paths] == ["e-2.pth.tar#ema.model", "e-10.pth.tar#ema.model"]
        assert [stem(p) for p in paths] == ["e-2", "e-10"]
    for step in (500, 1000):
        (tmp_path / f"checkpoint-{step}").mkdir()
    paths = film_planes.listing(f"{tmp_path}/checkpoint-*")
    assert [Path(p).name for p in paths] == ["checkpoint-500", "checkpoint-1000"]


# Containers


@pytest.mark.parametrize("name", ["a.pth.tar", "a.t7", "pytorch_model.bin", "a.pkl", "weights"])
def test_the_content_decides_and_not_the_suffix(
    tmp_path: Path, net: nn.Module, layout: Layout, name: str
) -> None:
    expect(saved(tmp_path, {"net": net.state_dict()}, name), layout, net.state_dict())
    torch.save(net.state_dict(), tmp_path / name, _use_new_zipfile_serialization=False)
    expect(str(tmp_path / name), layout, net.state_dict())
    safetensors.torch.save_file(net.state_dict(), tmp_path / name)
    expect(str(tmp_path / name), layout, net.state_dict())


def test_what_trainings_save_beside_weights(tmp_path: Path, net: nn.Module, layout: Layout) -> None:
    state = collections.defaultdict(list, prefixed(net.state_dict(), "model."))
    content = {
        "state_dict": state,
        "hyper_parameters": argparse.Namespace(lr=0.1, out=pathlib.Path("runs/1")),
        "best": np.float64(3.5),
        "history": np.arange(3.0),
        "seen": collections.Counter("aab"),
        "pytorch-lightning_version": "2.5",
        "optimizer_states": [torch.optim.SGD(net.parameters(), 0.1).state_dict()],
    }
    for zipped in (True, False):
        path = tmp_path / "last.ckpt"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        assert expect(str(path), layout, net.state_dict()) == "names without model."


def test_classes_of_packages_that_are_not_here(
    tmp_path: Path, net: nn.Module, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OmegaConf and Lightning write them: an inert object stands for each."""
    config = types.ModuleType("omegaconf.dictconfig")
    parsing = types.ModuleType("pytorch_lightning.utilities.parsing")

    class DictConfig:
        __module__, __qualname__ = config.__name__, "DictConfig"

    class AttributeDict(dict[str, Any]):
        __module__, __qualname__ = parsing.__name__, "AttributeDict"

    with monkeypatch.context() as patch:
        for module, cls in ((config, DictConfig), (parsing, AttributeDict)):
            setattr(module, cls.__name__, cls)
            *packages, _ = module.__name__.split(".")
            for name in itertools.accumulate(packages, "{}.{}".format):
                patch.setitem(sys.modules, name, types.ModuleType(name))
            patch.setitem(sys.modules, module.__name__, module)
        held = DictConfig()
        held.__dict__.update(_content={"lr": 0.1}, _parent=held)
        content = {"hyper_parameters": AttributeDict(cfg=held), "state_dict": net.state_dict()}
        path = saved(tmp_path, content, "last.ckpt")
    expect(path, layout, net.state_dict())


def shards(folder: Path, state: State, kind: str) -> None:
    """`state` in two files with an index, as transformers writes it."""
    folder.mkdir()
    stem, suffix = {"safetensors": ("model", "safetensors"), "bin": ("pytorch_model", "bin")}[kind]
    names = list(state)
    parts = {f"{stem}-0000{k + 1}-of-00002.{suffix}": names[k::2] for k in range(2)}
    for file, held in parts.items():
        part = {name: state[name] for name in held}
        if kind == "bin":
            torch.save(part, folder / file)
        else:
            safetensors.torch.save_file(part, folder / file)
    index = {"metadata": {}, "weight_map": {n: f for f, held in parts.items() for n in held}}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_folders_of_hugging_face(tmp_path: Path, net: nn.Module, layout: Layout, kind: str) -> None:
    halves = {n: t.bfloat16() if t.is_floating_point() else t for n, t in shifted(net).items()}
    shards(tmp_path / "bert", halves, kind)
    expect(str(tmp_path / "bert"), layout, halves)
    expect(str(next((tmp_path / "bert").glob("*.index.json"))), layout, halves)
    for path in (tmp_path / "bert").iterdir():
        with fsspec.open(f"memory://bert-{kind}/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    expect(f"memory://bert-{kind}", layout, halves)
    next((tmp_path / "bert").glob("*-00002-of*")).unlink()
    with pytest.raises(CheckpointError, match=r"00002\.\w+: no such file"):
        checkpoint.load(str(tmp_path / "bert"))
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"is a folder; .*It holds config\.json"):
        checkpoint.load(str(whole))
    safetensors.torch.save_file(prefixed(net.state_dict(), "bert."), whole / "model.safetensors")
    assert expect(str(whole), layout, net.state_dict()) == "names without bert."


def test_shards_are_measured_before_they_are_read(
    tmp_path: Path, net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards(tmp_path / "bert", dict(net.state_dict()), "safetensors")
    monkeypatch.setattr(memory, "_SMALL_BYTES", 0)
    monkeypatch.setattr(memory, "available", lambda: 1000.0)
    monkeypatch.setattr(tensors, "read", None)
    with pytest.raises(RoomError, match=r"index\.json unpacks to .*wanted what fits"):
        checkpoint.load(str(tmp_path / "bert"))


@pytest.mark.parametrize(
    "content", ['{"error": "gone"}', '{"weight_map": {"a": "../b.bin"}}', '{"weight_map": 3}', "{"]
)
def test_json_that_is_no_index(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match="is JSON and no index of a model in several files"):
        checkpoint.load(str(path))


@pytest.fixture
def distributed(tmp_path: Path, net: nn.Module) -> Path:
    """A folder of torch.distributed.checkpoint with a network and its optimizer."""
    from torch.distributed.checkpoint.state_dict_saver import save

    optimizer = torch.optim.Adam(net.parameters())
    net(torch.rand(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    folder = tmp_path / "step-100"
    content = {"app": {"model": net.state_dict()}, "optim": optimizer.state_dict(), "step": 100}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(content, checkpoint_id=folder, no_dist=True)
    return folder


def test_folders_of_torch_distributed(net: nn.Module, layout: Layout, distributed: Path) -> None:
    assert expect(str(distributed), layout, net.state_dict()) == "taken from app.model"
    expect(f"{distributed}#app.model", layout, net.state_dict())
    data = distributed / "__0_0.distcp"
    for path in distributed.iterdir():
        with fsspec.open(f"memory://step-100/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    expect("memory://step-100", layout, net.state_dict())
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"wanted a whole file of tensors") as caught:
        checkpoint.load(str(distributed))
    assert "\n" not in str(caught.value)
    data.unlink()
    with pytest.raises(CheckpointError, match=r"distcp: no such file"):
        checkpoint.load(str(distributed))


class Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return pathlib.Path(self.trace).write_text, ("owned",)


@pytest.mark.parametrize("where", ["metadata", "data"])
def test_a_malicious_folder_never_runs(distributed: Path, tmp_path: Path, where: str) -> None:
    trace = tmp_path / "owned"
    if where == "metadata":
        (distributed / ".metadata").write_bytes(pickle.dumps(Malicious(trace)))
        message = r"\.metadata holds builtins\.getattr, which could run code, and was refused"
    else:
        buffer = io.BytesIO()
        torch.save(Malicious(trace), buffer)
        data = distributed / "__0_0.distcp"
        data.write_bytes(buffer.getvalue().ljust(data.stat().st_size, b"\0"))
        message = "wanted a whole file of tensors|could run code, and was refused"
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(str(distributed))
    assert not trace.exists()
    (distributed / ".metadata").write_bytes(b"\x80\x04damaged")
    with pytest.raises(CheckpointError, match=r"\.metadata is not whole|was refused"):
        checkpoint.load(str(distributed))


# What is no checkpoint


def script(tmp_path: Path) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and its files are not
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script")
    return (tmp_path / "script").read_bytes()


def archive(_: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.pt"))
    return content.getvalue()


def zipped(_: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("a.pt", b"x")
    return content.getvalue()


def arrays(_: Path) -> bytes:
    content = io.BytesIO()
    np.savez(content, a=np.ones(2))
    return content.getvalue()


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.bin"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty; wanted a whole file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", r"pointer of Git LFS.*lfs p"),
        (b"\n<!DOCTYPE html><html>", r"is a web page; .*Download the file itself"),
        (b'<?xml version="1.0"?><Error/>', r"is a web page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), r"is an HDF5 file"),
        (b"\x1f\x8b\x08" + bytes(99), r"is compressed by gzip"),
        (b"\x03\x00\x00\x00" + bytes(99), r"is a file of Lua's Torch"),
        (b"\x93NUMPY\x01\x00", r"is one numpy array"),
        (script, r"is a TorchScript archive, which holds a program; .*torch\.jit\.load"),
        (archive, r"is a tar archive; .*Unpack it"),
        (zipped, r"is a zip archive of a\.pt and others; .*Unpack it"),
        (arrays, r"holds numpy arrays"),
    ],
)
def test_what_is_no_checkpoint_is_recognised(
    tmp_path: Path, name: str, content: bytes | Callable[[Path], bytes], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content(tmp_path))
    if name == "a.safetensors" and path.read_bytes()[:2] == b"PK":
        message = "|".join((message, "not a whole safetensors file"))
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(str(path))
    assert "\n" not in str(caught.value)


def test_onnx_is_recognised_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    with pytest.raises(CheckpointError, match="is an ONNX model; wanted a checkpoint of tensors"):
        checkpoint.load(str(tmp_path / "a.onnx"))

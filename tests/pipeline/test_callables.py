"""What a spec may call: what gives a network, and never Python's own functions."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.problem import callables, network, usercode
from pipeline.problem.network import NetworkError
from pipeline.problem.usercode import UserCodeError


@pytest.mark.parametrize(
    ("call", "module"),
    [
        (os.system, "posix"),
        (os.popen, "os"),
        (subprocess.run, "subprocess"),
        (functools.partial(os.system, "true"), "posix"),
        (functools.lru_cache(subprocess.run), "subprocess"),
        (eval, "builtins"),
        ([].append, "builtins"),
        (dict, "builtins"),
        (torch.nn.Linear, None),
        (torch.nn.functional.cross_entropy, None),
        (torch.nn.L1Loss(), None),
        (functools.partial(torch.nn.Linear, 3), None),
        (functools.lru_cache(lambda: 1), None),
        (functools.wraps(os.popen)(lambda *_: 1), "os"),
    ],
)
def test_where_a_callable_comes_from(call: Any, module: str | None) -> None:
    assert callables.of_python(call) == module


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("os:system", "os:system is Python's own, from os, and was not called; wanted a torch.nn."),
        ("builtins:eval", "is Python's own, from builtins"),
        ("antigravity:geohash", "is Python's own, from antigravity"),  # opens a browser
        (
            "pipeline.problem.usercode:importlib.import_module",
            "has no callable importlib.import_module",
        ),
        ("pipeline.store.keys:find_spec", "is Python's own, from importlib.util"),
        ("numpy:array", "numpy:array is a function written in C, which gives no network"),
        ("numpy:ndarray", "is the class numpy.ndarray, which gives no network, and was not called"),
    ],
)
def test_a_factory_that_gives_no_network_is_not_called(factory: str, message: str) -> None:
    with pytest.raises(NetworkError, match=f"^network.factory.* {message}"):
        network.build(factory, {})


def test_a_module_and_what_a_package_passes_on_are_factories() -> None:
    for factory in ("torch.nn:Linear", "torch.nn.modules.linear:Linear"):
        assert isinstance(
            network.build(factory, {"in_features": 1, "out_features": 1}), torch.nn.Linear
        )


@pytest.mark.parametrize("name", ["system", "os.system", "later", "Net.run"])
def test_a_users_file_lends_no_name_to_pythons_own(tmp_path: Path, name: str) -> None:
    file, ran = tmp_path / "net.py", tmp_path / "ran"
    file.write_text(
        "import functools, os\nfrom os import system\n"
        f"later = functools.partial(system, 'touch {ran}')\n"
        "class Net:\n    run = later\n"
    )
    with pytest.raises(
        UserCodeError, match="has no os.system|is Python's own, from posix, and was"
    ):
        usercode.attribute(usercode.read(str(file)), name)
    assert not ran.exists()

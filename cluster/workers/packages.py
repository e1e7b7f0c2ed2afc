"""Which packages a process runs: those of the driver's folder, whatever else is on the path.

The names of our packages are common words. `pin` loads them from the driver's folder, before
anything can import another package of the same name. This module uses the standard library only: it
is pickled by value and runs on the workers before our packages can be imported there.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from dataclasses import dataclass

NAMES = ("pipeline", "renders", "cluster")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass(frozen=True)
class Running:
    """What a process runs: folder and source digest of one of our packages, and the versions."""

    package: str
    folder: str
    digest: str
    python: str
    ray: str
    torch: str
    numpy: str
    host: str
    pid: int


def pin(root: str = ROOT) -> None:
    """Load our packages from the folders under `root`, if these exist.

    If they do not (on a machine with its own installation), the usual path applies.
    """
    for name in NAMES:
        folder = os.path.join(root, name)
        init = os.path.join(folder, "__init__.py")
        present = sys.modules.get(name)
        if not os.path.isfile(init):
            continue
        if present is not None and _same(getattr(present, "__file__", None), init):
            continue
        spec = importlib.util.spec_from_file_location(
            name, init, submodule_search_locations=[folder]
        )
        if spec is None or spec.loader is None:
            continue
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def running(package: str = "pipeline") -> Running:
    """What this process runs, after `pin`."""
    module = importlib.import_module(package)
    folder = os.path.dirname(os.path.abspath(module.__file__ or ""))
    return Running(
        package,
        folder,
        _digest(folder),
        platform.python_version(),
        _installed("ray"),
        _installed("torch").partition("+")[0],  # any build: a driver may have no GPU
        _installed("numpy"),
        platform.node(),
        os.getpid(),
    )


def version() -> str:
    """The installed version of lossatlas; `checkout` if it is not installed."""
    return _installed("lossatlas", otherwise="checkout")


def _installed(name: str, otherwise: str = "none") -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return otherwise


def _digest(folder: str) -> str:
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(name for name in files if name.endswith(".py")):
            path = os.path.join(parent, name)
            digest.update(os.path.relpath(path, folder).encode() + b"\0")
            with open(path, "rb") as file:
                digest.update(file.read() + b"\0")
    return digest.hexdigest()[:16]


def _same(file: str | None, other: str) -> bool:
    return file is not None and os.path.realpath(file) == os.path.realpath(other)

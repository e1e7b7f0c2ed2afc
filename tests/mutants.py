"""Puts deliberate faults into a copy of the packages, and says which ones the fast tests notice.

    python -m tests.mutants              every fault in tests/mutations/
    python -m tests.mutants lease seam   those with `lease` or `seam` in their names
    python -m tests.mutants --list       their names, and which tests have to fail

First the tests have to pass without a fault. Then, fault by fault: it is put into the copy, the
tests named for it run there (`pytest -x -q`, without the slow ones), and it is taken out again. A
fault is CAUGHT when a test fails. One that SURVIVED wants a new test; one that is BROKEN was not
tried: its tests cannot be collected.

Exit code: 0 when every fault was caught, 1 otherwise. All of them take half an hour on two cores
that are shared; `tests/test_mutants.py` holds the table itself in `make test`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mutations import deciding, driving, evaluating, keeping, marking, painting, refining
from tests.mutations.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *keeping.FAULTS,
    *deciding.FAULTS,
    *evaluating.FAULTS,
    *refining.FAULTS,
    *driving.FAULTS,
    *painting.FAULTS,
    *marking.FAULTS,
)
ROOT = Path(__file__).parents[1]
_COPIED = ("pipeline", "renders", "cluster", "tests", "benchmarks", "examples", "docs")
_TIMEOUT_SECONDS = 150
# Processes that begin with what takes seconds to import. Not what pytest has to see first: plugins.
_FORKS = multiprocessing.get_context("forkserver")
_PRELOADED = ["datashader", "numba", "numcodecs", "scipy", "torch", "xarray"]


class MutantError(Exception):
    """The table does not fit the source."""


def faulty(fault: Fault, root: Path = ROOT) -> str:
    """The text of the fault's file with the fault in it.

    Raises:
        MutantError: the text to replace is not there exactly once.
    """
    source = (root / fault.file).read_text()
    if source.count(fault.old) != 1:
        raise MutantError(
            f"{fault.name}: its text is {source.count(fault.old)} times in {fault.file}; wanted "
            f"once. Mend it in tests/mutations/:\n{fault.old}"
        )
    return source.replace(fault.old, fault.new)


def run(faults: Sequence[Fault]) -> int:
    """Try `faults`, and print a line for each; how many were not caught."""
    for fault in faults:
        faulty(fault)
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        copy = _copied(Path(place))
        tests = sorted({test for fault in faults for test in fault.tests})
        code, told = _pytest(copy, tests)
        if code != 0:
            print(f"the tests do not pass without a fault:\n{told}")
            return len(faults)
        missed = 0
        for fault in faults:
            began = time.monotonic()
            verdict, by = _tried(copy, fault)
            missed += verdict != "caught"
            print(f"{verdict:8}  {fault.name:44} {time.monotonic() - began:4.0f} s  {by}")
            sys.stdout.flush()
    print(f"{len(faults) - missed} of {len(faults)} caught")
    return missed


def _tried(copy: Path, fault: Fault) -> tuple[str, str]:
    """What became of one fault, and the test that noticed it or what went wrong."""
    path = copy / fault.file
    sound = path.read_text()
    path.write_text(faulty(fault, copy))
    try:
        code, told = _pytest(copy, fault.tests)
    finally:
        path.write_text(sound)
    lines = told.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    match code:
        case 0:
            return "SURVIVED", " ".join(fault.tests)
        case 1:
            return "caught", failed[0].split(" - ")[0] if failed else ""
    return "BROKEN", (failed or lines or [""])[-1]


def _copied(place: Path) -> Path:
    for name in _COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "*.zarr")
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    for file in ROOT.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copy(file, place)
    return place


def _pytest(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Pytest's exit code and its output."""
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--timeout={_TIMEOUT_SECONDS}", *tests]
    told = copy / "output"
    process = _FORKS.Process(target=_in_copy, args=(copy, options, told))
    process.start()
    process.join()
    return process.exitcode or 0, told.read_text()


def _in_copy(copy: Path, options: list[str], told: Path) -> None:
    """In a process of its own: run the tests of the copy, on what is in the copy."""
    with told.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(copy)
    # What this module brought in is the checkout's.
    for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
        del sys.modules[name]
    sys.path[:] = [
        str(copy),
        *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT),
    ]
    os.environ["PYTHONPATH"] = str(copy)
    # A fault of the same length, put in within a second, would be taken for what was compiled.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    code = int(pytest.main(options))
    # Not what is done at an exit: a fault may have left threads that never end.
    sys.stdout.flush()
    os._exit(code)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of the names of faults; all by default")
    parser.add_argument("--list", action="store_true", help="print the table and try nothing")
    asked = parser.parse_args()
    _FORKS.set_forkserver_preload(_PRELOADED)
    faults = [f for f in FAULTS if not asked.names or any(n in f.name for n in asked.names)]
    if not faults:
        parser.error(f"no fault has {' or '.join(asked.names)} in its name: see --list")
    if asked.list:
        for fault in faults:
            print(f"{fault.name:44} {fault.file:28} {' '.join(fault.tests)}")
        return 0
    return 1 if run(faults) else 0


if __name__ == "__main__":
    sys.exit(main())

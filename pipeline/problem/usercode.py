"""User code: a user's own Python file, which travels as source to where it runs."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from pipeline.errors import LossatlasError, described
from pipeline.problem import callables

_PREFIX = "_lossatlas_user_"


class UserCodeError(LossatlasError):
    """A user's Python file cannot be read, imported, or lacks the name asked for."""


@dataclass(frozen=True)
class UserCode:
    """The sources of one Python file and of the siblings that it imports.

    Attributes:
        entry: the file itself, relative to its own folder (`model.py`).
        files: relative POSIX path → source, `entry` among them. Nothing else travels: a data
            file that the code opens has to be reachable where the code runs.
        digest: sha256 (hex) over the entry's name and all names and sources.
    """

    entry: str
    files: Mapping[str, str]
    digest: str


def read(path: str) -> UserCode:
    """Read a Python file and, transitively, the siblings it reaches by relative imports.

    Nothing is imported or run; imports are found in the syntax tree, wherever they stand.

    Raises:
        UserCodeError: a file is missing or is not Python, or an import cannot work: a relative
            one without its file, or an absolute one of a sibling (whose folder is on no path).
    """
    entry = Path(path).absolute()
    if "." in entry.stem:
        raise UserCodeError(
            f"{path} has a dot in its name; wanted a name that can be imported. Rename it, "
            f"such as {entry.stem.replace('.', '_')}.py"
        )
    files: dict[str, str] = {}
    pending = [entry]
    while pending:
        file = pending.pop()
        name = file.relative_to(entry.parent).as_posix()
        if name not in files:
            files[name], tree = _parse(file)
            pending.extend(_reached(tree, file, entry.parent))
    return UserCode(entry.name, dict(sorted(files.items())), _digest(entry.name, files))


def source_of(name: str) -> UserCode | None:
    """The sources behind `path/file.py:callable`; None for any other name.

    Raises:
        UserCodeError: as `read`.
    """
    file, _, _ = name.rpartition(":")
    return read(file) if file.endswith(".py") else None


def recorded(facts: Mapping[str, Any], where: str) -> UserCode:
    """Code as a store or a training has kept it, its digest held to its sources.

    Args:
        facts: entry, files and digest.
        where: it was kept, for the message.

    Raises:
        UserCodeError: they do not belong together.
    """
    entry, files, digest = (facts.get(key) for key in ("entry", "files", "digest"))
    if not (
        isinstance(files, dict)
        and all(isinstance(text, str) for text in files.values())
        and isinstance(entry, str)
        and entry in files
    ):
        raise UserCodeError(f"{where} holds code without its files; wanted a whole store")
    found = _digest(entry, files)
    if found != digest:
        raise UserCodeError(
            f"{where}: the code of {entry} has the digest {found[:12]}… and {str(digest)[:12]}… is "
            "recorded, so it was changed after it was kept; wanted what the run began with. Put "
            "the old store back, or render to a new one"
        )
    return UserCode(entry, dict(files), found)


def _digest(entry: str, files: Mapping[str, str]) -> str:
    sha = hashlib.sha256()
    for text in (entry, *(part for item in sorted(files.items()) for part in item)):
        content = text.encode()
        sha.update(len(content).to_bytes(8, "little") + content)
    return sha.hexdigest()


def load(code: UserCode) -> ModuleType:
    """Import `code` from its sources alone and return the module of its entry.

    The modules live in a private package named after the digest, so that they can neither shadow
    another module nor be shadowed; `sys.path` stays as it is. Loading twice gives the same
    module, tracebacks show the source lines, and pickled classes are found again by their module
    name once the same code is loaded.

    Raises:
        UserCodeError: the code raised while it was imported; the message names file and line.
    """
    finder = _Finder(code)
    if finder.entry in sys.modules:
        return sys.modules[finder.entry]
    if finder not in sys.meta_path:
        sys.meta_path.append(finder)
    try:
        return importlib.import_module(finder.entry)
    except (Exception, SystemExit) as error:
        _forget(finder)
        raise UserCodeError(
            f"{place(error) or code.entry}: importing it raised {described(error)}; wanted a file "
            "that imports cleanly. Mend it, or install what it needs where the render runs"
        ) from error


def attribute(code: UserCode, name: str) -> Callable[..., Any]:
    """The callable `name` (dots reach into classes) of the module that `code` makes.

    Raises:
        UserCodeError: the name does not exist (the message gives the nearest that does), cannot
            be called, or is one of Python's own; or as `load`.
    """
    module = load(code)
    try:
        value = callables.reach(module, name)
    except AttributeError:
        names = [n for n, v in vars(module).items() if n[0] != "_" and callable(v)]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        cure = f"Did you mean {near[0]}?" if near else f"It has {', '.join(names) or 'none'}"
        raise UserCodeError(
            f"{code.entry} has no {name}; wanted a callable of that name. {cure}"
        ) from None
    if not callable(value):
        raise UserCodeError(
            f"{name} of {code.entry} is {type(value).__name__}; wanted a function or a class"
        )
    python = callables.of_python(value)
    if python is not None:
        raise UserCodeError(
            f"{name} of {code.entry} is Python's own, from {python}, and was not called; wanted a "
            "function or a class that you wrote. Name that"
        )
    found: Callable[..., Any] = value
    return found


def place(error: BaseException) -> str | None:
    """The place in user code where an error arose (`model.py line 12`), or None."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(f"<{_PREFIX}"):
            return f"{frame.filename.partition('>/')[2]} line {frame.lineno}"
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(f"<{_PREFIX}"):
        return f"{str(error.filename).partition('>/')[2]} line {error.lineno}"
    return None


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Finds and loads the modules of one private package from their sources."""

    def __init__(self, code: UserCode) -> None:
        self.package = f"{_PREFIX}{code.digest[:12]}"
        self.entry = f"{self.package}.{PurePosixPath(code.entry).stem}"
        self._sources = {self.package: ("__init__.py", "")}
        for path, source in code.files.items():
            file = PurePosixPath(path)
            for folder in file.parents:
                if folder.name:
                    self._sources.setdefault(self._name(folder), (f"{folder}/__init__.py", ""))
            module = file.parent if file.name == "__init__.py" else file.with_suffix("")
            self._sources[self._name(module)] = (path, source)

    def _name(self, module: PurePosixPath) -> str:
        return ".".join((self.package, *module.parts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Finder) and other.package == self.package

    def __hash__(self) -> int:
        return hash(self.package)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._sources:
            return None
        spec = importlib.util.spec_from_loader(fullname, self)
        if spec is not None and spec.submodule_search_locations is not None:
            spec.submodule_search_locations = []
        return spec

    def is_package(self, fullname: str) -> bool:
        return PurePosixPath(self._sources[fullname][0]).name == "__init__.py"

    def get_filename(self, fullname: str) -> str:
        return f"<{self.package}>/{self._sources[fullname][0]}"

    def get_source(self, fullname: str) -> str:
        return self._sources[fullname][1]

    def exec_module(self, module: ModuleType) -> None:
        filename, source = self.get_filename(module.__name__), self.get_source(module.__name__)
        # No modification time: linecache.checkcache() then keeps the entry for good.
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        super().exec_module(module)


def _forget(finder: _Finder) -> None:
    """Remove what a failed import left, so that the next attempt starts anew."""
    sys.meta_path.remove(finder)
    for name in [n for n in sys.modules if f"{n}.".startswith(f"{finder.package}.")]:
        del sys.modules[name]


def _parse(file: Path) -> tuple[str, ast.Module]:
    try:
        source = importlib.util.decode_source(file.read_bytes())
        return source, ast.parse(source)
    except (FileNotFoundError, IsADirectoryError):
        message = "no such file; wanted a Python file. Check the path"
    except OSError as error:
        message = f"cannot be read ({error.strerror}); wanted a Python file"
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        message = f"{line}{error.msg}; wanted valid Python. Mend it"
    except ValueError as error:
        message = f"{error}; wanted Python source as UTF-8 text"
    raise UserCodeError(f"{file}: {message}")


def _reached(tree: ast.Module, file: Path, folder: Path) -> Iterator[Path]:
    """The files in `folder` that the imports of `file` load."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    _refuse_sibling(
                        alias.name.partition(".")[0], f"{file} line {node.lineno}", folder
                    )
            case ast.ImportFrom(module=str(module), level=0):
                _refuse_sibling(module.partition(".")[0], f"{file} line {node.lineno}", folder)
            case ast.ImportFrom():
                yield from _relative(node, file, folder)


def _refuse_sibling(name: str, where: str, folder: Path) -> None:
    """An absolute import of a file beside the user's: it would not be found on a worker."""
    module = name.partition(".")[0]
    files = [folder / f"{module}.py", folder / module / "__init__.py"]
    if not any(f.is_file() for f in files) or module in sys.stdlib_module_names:
        return
    spec = importlib.util.find_spec(module) if module not in sys.modules else None
    found = spec.origin if spec else getattr(sys.modules.get(module), "__file__", None)
    if found and not any(f.is_file() and f.samefile(found) for f in files):
        return
    elsewhere = [p for p in sys.path if Path(p or ".").absolute() != folder]
    if importlib.machinery.PathFinder.find_spec(module, elsewhere):
        return
    raise UserCodeError(
        f"{where}: import {module} means the file beside it, whose folder is on no worker's path; "
        f"wanted a relative import. Write `from . import {module}`"
    )


def _relative(node: ast.ImportFrom, file: Path, folder: Path) -> Iterator[Path]:
    """The files that `from .module import names` loads, packages on the way included."""
    written = f"{file} line {node.lineno}: from {'.' * node.level}{node.module or ''} import"
    base = Path(*file.parts[: len(file.parts) - node.level])
    if not base.is_relative_to(folder):
        raise UserCodeError(
            f"{written} reaches above {folder}; wanted files in or under that folder. "
            "Move what is imported there"
        )
    target = base
    for part in (node.module or "").split(".") if node.module else []:
        target = target / part
        found = _module(target)
        if found is None and not target.is_dir():
            raise UserCodeError(
                f"{written} finds no {target}.py; wanted the file of that name. "
                "Check the import, or the file's name"
            )
        if found is not None:
            yield found
    if not target.is_dir() or _module(target) == target.with_name(f"{target.name}.py"):
        return
    for alias in node.names:
        found = _module(target / alias.name)
        if found is not None:
            yield found
        elif (target / "__init__.py").is_file():
            yield target / "__init__.py"
        elif not (target / alias.name).is_dir():
            raise UserCodeError(
                f"{written} {alias.name} finds no {target / alias.name}.py; wanted the file of "
                "that name. Check the import, or the file's name"
            )


def _module(path: Path) -> Path | None:
    """The file that an import of `path` runs, in the order of Python's own rules."""
    files = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((file for file in files if file.is_file()), None)

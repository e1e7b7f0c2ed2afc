"""cluster → renders → pipeline, never back: what may import what, read from the sources."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "pipeline": {"ray", "datashader", "renders", "cluster"},
    "renders": {"torch", "ray", "cluster"},
    "cluster": {"datashader"},
}


def sources(package: str) -> dict[str, Path]:
    """The modules of a package, by dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """Dotted names a file imports, the names behind `from` included; or only those at its top."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module), level=0):
                names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
            case ast.ImportFrom():
                raise AssertionError(f"{path} has a relative import")
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_the_arrows_hold(package: str) -> None:
    for name, path in sources(package).items():
        tops = {imported.partition(".")[0] for imported in imports(path)}
        assert not tops & FORBIDDEN[package], name


def test_pictures_need_no_torch() -> None:
    modules = sources("pipeline")
    front = {i for path in sources("renders").values() for i in imports(path) if i in modules}
    seen: set[str] = set()
    while front:
        name = front.pop()
        seen.add(name)
        imported = imports(modules[name])
        assert "torch" not in {i.partition(".")[0] for i in imported}, name
        front |= {i for i in imported if i in modules} - seen
    assert "pipeline.store.store" in seen


def test_the_command_line_imports_nothing_that_a_users_file_could_shadow() -> None:
    """Until `main` has bound our packages to their folders, only `cluster` itself is imported."""
    modules = {name: path for package in FORBIDDEN for name, path in sources(package).items()}
    front, seen = {"cluster.cli.main"}, set()
    while front:
        name = front.pop()
        seen.add(name)
        imported = imports(modules[name], everywhere=False)
        assert not {i for i in imported if i.partition(".")[0] in {"pipeline", "renders"}}, name
        front |= {i for i in imported if i in modules} - seen
    assert "cluster.cli.export.poster" in seen


def test_whatever_is_imported_is_declared() -> None:
    """By name, not only brought along by something else; and not for the tests alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [
        line for extra in ("s3", "peers") for line in project["optional-dependencies"][extra]
    ]
    declared = {re.split(r"[\[<>=]", line)[0] for line in wanted}
    # An extra that is not installed here is called as its package is.
    brought_by = packages_distributions()
    for package in FORBIDDEN:
        for name, path in sources(package).items():
            tops = {imported.partition(".")[0] for imported in imports(path)}
            for top in tops - sys.stdlib_module_names - set(FORBIDDEN):
                assert {one.lower() for one in brought_by.get(top, [top])} & declared, (name, top)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_there_are_no_circles(package: str) -> None:
    modules = sources(package)
    arrows = {
        name: {i for i in imports(path, everywhere=False) if i in modules and i != package}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " → ".join((*way, name))
        if name not in done:
            for imported in sorted(arrows[name]):
                visit(imported, (*way, name))
            done.add(name)

    for name in modules:
        visit(name, ())


@pytest.mark.parametrize("package", FORBIDDEN)
def test_rooms_know_each_other_one_way(package: str) -> None:
    """Lazy imports included. A module beside the rooms counts as a room of its own."""
    modules = sources(package)

    def room(name: str) -> str:
        return ".".join(name.split(".")[:2])

    arrows = {
        (room(name), room(imported))
        for name, path in modules.items()
        for imported in imports(path)
        if imported in modules and imported.count(".") and room(imported) != room(name)
    }
    both = sorted(pair for pair in arrows if pair[::-1] in arrows and pair[0] < pair[1])
    assert both == []


@pytest.mark.parametrize("package", FORBIDDEN)
def test_nothing_happens_when_a_package_is_imported(package: str) -> None:
    for name, path in sources(package).items():
        if path.name == "__init__.py":
            assert path.read_text(encoding="utf-8").strip() == "", name

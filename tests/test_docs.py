"""The documentation says what is there: links, commands and spec keys."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import click
import pytest
import yaml
from pydantic import BaseModel

from cluster.cli.main import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
SHOWN = [
    ROOT / "README.md",
    *(page for page in PAGES if page.parent.name in ("how-to", "tutorial")),
    *(page for page in PAGES if page.parent.parent.name == "examples"),
]


@cache
def hook(name: str) -> ModuleType:
    """A module of docs/hooks, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@cache
def anchors(page: Path) -> set[str]:
    """What a link may name behind # on a page: its headings, as GitHub and the site write them."""
    text = prose(page)
    for name, model in hook("spec_keys").MODELS.items():
        text = text.replace(f"<!-- keys: {name} -->", hook("spec_keys").tables(model, set()))
    plain = (
        re.sub(r"[^\w\- ]", "", title.lower()) for title in re.findall(r"^#+ (.+)$", text, re.M)
    )
    return {title.strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def command_lines(page: Path) -> Iterator[str]:
    """The `lossatlas …` lines of a page, in blocks and in the text."""
    text = page.read_text(encoding="utf-8")
    joined = re.sub(r" *\\\n\s*", " ", text)
    for line in re.findall(r"^ {4,}(?:\$ )?(lossatlas .+)$", joined, re.M):
        yield line.partition(" #")[0]
    for code in re.findall(r"(?<!`)`(lossatlas [^`]+)`", text):
        yield " ".join(code.split())


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_shown_exist(page: Path) -> None:
    for line in command_lines(page):
        words = [w for w in shlex.split(line.replace("[", "").replace("]", "")) if w != "…"]
        command: click.Command = cli
        context = click.Context(cli)
        words = words[1:]
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            assert words[0] in command.commands, line
            command = command.commands[words[0]]
            context = click.Context(command, parent=context, info_name=words[0])
            words = words[1:]
        values, left, _ = command.make_parser(context).parse_args(words)
        assert not left, line
        for parameter in command.params:  # words among those allowed, numbers that are numbers
            value = values.get(str(parameter.name))
            if isinstance(parameter, click.Option) and isinstance(value, str):
                parameter.type.convert(value, parameter, context)


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model, and every model that its fields hold."""
    yield model
    held: list[Any] = [field.annotation for field in model.model_fields.values()]
    for annotation in held:  # which grows
        held.extend(get_args(annotation))
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from models(annotation)


def test_every_key_is_in_the_reference() -> None:
    spec_keys = hook("spec_keys")
    pages = [DOCS / "reference" / name for name in ("spec.md", "training-specs.md")]
    asked = {m for page in pages for m in re.findall(r"<!-- keys: (\w+) -->", page.read_text())}
    assert asked == set(spec_keys.MODELS)
    for model in spec_keys.MODELS.values():
        shown = spec_keys.tables(model, set())
        for part in models(model):
            for name in part.model_fields:
                row = re.search(rf"^\| `{name}` \| [^|]+ \| [^|]+ \| \S.*\|$", shown, re.M)
                assert row, f"{part.__name__}.{name} has no meaning: Field(description=…)"


def test_meanings_are_of_keys_that_need_them() -> None:
    """keys.yaml says nothing of keys that are gone, or that say it themselves."""
    spec_keys = hook("spec_keys")
    parts = {part.__name__: part for model in spec_keys.MODELS.values() for part in models(model)}
    for part, entries in spec_keys.KEYS.items():
        for name, entry in entries.items():
            field = parts[part].model_fields[name]
            meaning = entry.get("meaning") if isinstance(entry, dict) else entry
            assert not (field.description and meaning), f"{part}.{name}: delete it from keys.yaml"


def test_every_command_is_in_the_reference() -> None:
    text = hook("command_help").on_page_markdown("<!-- commands -->")
    for name, command in cli.commands.items():
        assert (f"## lossatlas {name}\n" in text) != command.hidden
        for inner in command.commands if isinstance(command, click.Group) else ():
            assert f"## lossatlas {name} {inner}\n" in text


class _Loader(yaml.SafeLoader):
    """YAML whose tags of Python objects are passed over."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def test_every_page_is_in_the_contents() -> None:
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=_Loader)
    listed = set(re.findall(r"[\w/.-]+\.md", str(settings["nav"])))
    assert {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} <= listed

"""Reading specs: YAML from files, paths made absolute, and errors that name the key."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.errors import LossatlasError, one_line
from pipeline.plane_spec import WEIGHTS_WANTED
from pipeline.url import check, is_url

Model = TypeVar("Model", bound=BaseModel)


class SpecError(LossatlasError):
    """The spec cannot be read, or says something that cannot be rendered."""


def read_yaml(path: Path, keys: str) -> dict[str, Any]:
    """The top-level mapping of a YAML file.

    Args:
        path: of the file.
        keys: the keys that belong in it, for the message of a file that is no mapping.

    Raises:
        SpecError: the file is missing, is not YAML, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; wanted a YAML spec. Check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read ({error}); wanted a YAML spec") from None
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not YAML: {one_line(error)}") from None
    except RecursionError:
        raise SpecError(f"{path} is nested too deeply; wanted a YAML spec. Flatten it") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path} holds {type(content).__name__}; wanted keys such as {keys}")
    return content


def validate(
    model: type[Model],
    content: dict[str, Any],
    where: str,
    context: dict[str, Any] | None = None,
) -> Model:
    """Check `content` against `model`, a kind of spec.

    Raises:
        SpecError: a key or value is wrong; `where` says in which file.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        raise SpecError(f"{where}: {'; '.join(_explain(error, model))}") from None


def absolute(path: str, folder: Path) -> str:
    """`path` taken from `folder`; a URL as it is."""
    return check(path) if is_url(path) else str((folder / Path(path).expanduser()).resolve())


def absolute_callable(name: str, folder: Path, path_by_itself: bool = False) -> str:
    """`file.py:name` with an absolute file; any other name unchanged unless it is a path."""
    file, colon, attribute = name.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{absolute(file, folder)}:{attribute}"
    return absolute(name, folder) if path_by_itself else name


class _StrictLoader(yaml.SafeLoader):
    """YAML that also refuses a key written twice, and an alias of a part inside that part."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._open: list[str] = []  # the anchors of the parts that are being read

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if not isinstance(event, yaml.AliasEvent):
            self._open.append(getattr(event, "anchor", None) or "")
            node = super().compose_node(parent, index)
            self._open.pop()
            return node
        anchor, mark = str(event.anchor), typing.cast("Any", event.start_mark)
        if anchor in self._open:
            raise yaml.composer.ComposerError(
                None, None, f"*{anchor} stands inside of &{anchor}", mark
            )
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = super().compose_mapping_node(anchor)
        # Before merge keys (<<) add keys, which may be written a second time.
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = sorted({key[1] for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.composer.ComposerError(
                None, None, f"{', '.join(repeated)} is written twice", node.start_mark
            )
        return node


def _explain(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    explained = set()
    for item in error.errors():
        key = _dotted(_untagged(item["loc"]))
        alternatives = key.partition(".tile.")[1] or key.partition(".extent.")[1]
        if alternatives:
            # A value of several possible types: pydantic reports each; the first is enough.
            key = key.partition(alternatives)[0] + alternatives.rstrip(".")
            if key in explained:
                continue
            explained.add(key)
        match item["type"]:
            case "extra_forbidden":
                yield f"{key}: unknown key; {_nearest(item['loc'], model)}"
            case "missing":
                yield f"{key}: missing; wanted a value"
            case "union_tag_invalid" | "union_tag_not_found":
                kinds = ", ".join(WEIGHTS_WANTED)
                found = item["input"].get("kind") if isinstance(item["input"], dict) else None
                yield f"plane.kind: found {found!r}; wanted one of {kinds}"
            case "value_error":
                message = item["msg"].removeprefix("Value error, ")
                yield f"{key}: {message}" if key else message
            case _:
                message = item["msg"][0].lower() + item["msg"][1:]
                yield f"{key}: found {item['input']!r}; {message}"


def _dotted(location: tuple[int | str, ...]) -> str:
    """A place in a spec, such as `marks[0].weights`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _untagged(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """`location` without the kind of plane that pydantic puts after `plane`."""
    return tuple(
        part
        for before, part in zip((None, *location), location, strict=False)
        if before != "plane" or part not in WEIGHTS_WANTED
    )


def _nearest(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    keys = _keys_at(location[:-1], model)
    near = difflib.get_close_matches(str(location[-1]), keys, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"wanted one of {', '.join(keys)}"


def _keys_at(location: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """The keys allowed at a place in the spec, found by walking the models' annotations."""
    model: Any = root
    for part in _untagged(location):
        if isinstance(part, int):
            continue  # the entry of a list: its model is already found
        model = model.model_fields[part].annotation
        choices = typing.get_args(model)
        if choices:
            kind = location[-1]
            model = next(
                (
                    choice
                    for choice in choices
                    if isinstance(choice, type)
                    and issubclass(choice, BaseModel)
                    and (
                        "kind" not in choice.model_fields
                        or kind in typing.get_args(choice.model_fields["kind"].annotation)
                    )
                ),
                choices[0],
            )
    return list(model.model_fields)

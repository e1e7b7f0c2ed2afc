"""The tables of spec keys: `<!-- keys: RenderSpec -->` in a page becomes those of that model.

What a key means is its `Field(description=…)`, else its entry in keys.yaml, else its line in the
`Attributes:` section of the model's docstring. keys.yaml also says what a default of none means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from pipeline.spec import RenderSpec
from pipeline.training.spec import ConnectSpec, FitSpec

Schema = dict[str, Any]
MODELS: dict[str, type[BaseModel]] = {m.__name__: m for m in (RenderSpec, ConnectSpec, FitSpec)}
KEYS: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("keys.yaml").read_text(encoding="utf-8")
)
_WORDS = {"string": "text", "integer": "whole number", "boolean": "`true` or `false`"}
_BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}",
           "exclusiveMaximum": "< {}", "maxLength": "up to {} characters"}  # fmt: skip


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    shown: set[tuple[str, str]] = set()
    return re.sub(r"<!-- keys: (\w+) -->", lambda m: tables(MODELS[m[1]], shown), markdown)


def tables(model: type[BaseModel], shown: set[tuple[str, str]]) -> str:
    """Markdown: a table of keys for `model`, and one for each part of it not yet `shown`."""
    whole, lines = model.model_json_schema(), []
    for path, part in _parts(whole, whole["$defs"]):
        if (path, part["title"]) in shown:
            continue
        shown.add((path, part["title"]))
        kind = part["properties"].get("kind", {}).get("const")
        about = part.get("description", "").partition("\n\n")[0]
        title = f"`{path}`" + (f" with `kind: {kind}`" if kind else "")
        lines += [f"### {title}", "", about, ""] if path else []
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for name, key in part["properties"].items():
            meaning, default = described(part, name)
            cells = f"`{name}`", in_words(key), default, meaning
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def _parts(part: Schema, parts: dict[str, Schema], path: str = "") -> Iterator[tuple[str, Schema]]:
    """The part itself, then what its keys hold, each with its dotted key."""
    yield path, part
    for name, key in part["properties"].items():
        is_list = "items" in key
        name = f"{name}[]" if is_list else name
        for inner in (key, key.get("items", {}), *key.get("anyOf", ()), *key.get("oneOf", ())):
            if "$ref" in inner:
                held = parts[inner["$ref"].rpartition("/")[2]]
                yield from _parts(held, parts, f"{path}.{name}".lstrip("."))


def described(part: Schema, name: str) -> tuple[str, str]:
    """The meaning and the default of a key, as Markdown."""
    key, entry = part["properties"][name], KEYS.get(part["title"], {}).get(name, {})
    entry = entry if isinstance(entry, dict) else {"meaning": entry}
    line = re.search(rf"^    {name}: (.+(?:\n {{8}}.+)*)", part.get("description", ""), re.M)
    found = key.get("description") or entry.get("meaning") or (line[1] if line else "")
    meaning = " ".join(found.split())
    default = entry.get("default") or ("required" if name in part.get("required", ()) else None)
    if default is None and isinstance(key.get("default"), dict):
        default = "see below"
    elif default is None:
        value = key.get("default")
        shown = value if isinstance(value, str) else json.dumps(value).replace('"', "")
        default = "none" if value is None else f"`{shown}`"
    return meaning[:1].upper() + meaning[1:], default


def in_words(key: Schema) -> str:
    """The type and the allowed values of a key."""
    choices = [c for c in key.get("anyOf", ()) if c.get("type") != "null"]
    if choices:
        return " or ".join(in_words(choice) for choice in choices)
    if "enum" in key or "const" in key:
        return ", ".join(f"`{value}`" for value in key.get("enum", [key.get("const")]))
    if "$ref" in key or "oneOf" in key:
        return "mapping"
    if key["type"] == "array":
        count = f"{key['maxItems']} " if "maxItems" in key else ""
        items = in_words(key.get("items") or key["prefixItems"][0])
        plural = items.replace("number", "numbers").replace("mapping", "mappings")
        return f"list of {count}{plural}"
    if key["type"] == "object":
        values = key.get("additionalProperties")
        return f"mapping: name to {in_words(values)}" if isinstance(values, dict) else "mapping"
    bounds = [words.format(key[bound]) for bound, words in _BOUNDS.items() if bound in key]
    return ", ".join([_WORDS.get(key["type"], key["type"]), *bounds])

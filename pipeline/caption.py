"""A render in words: its network, the unit of its loss, how its examples were drawn.

Pictures and reports use these texts. What is not in a store's attributes is left out, never
guessed. Nothing here imports torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.loss_names import OF_CLASSES, SHOWN

SELECTIONS = {
    "stratified": "class-stratified",
    "seeded": "seeded sample",
    "head": "first rows",
}
"""Ways to choose examples, as a store notes them, and their words."""
STATISTICS = {"held": "held at each point", "through": "differentiated through"}
"""How derivatives take the statistics of batch norms, as a spec says it, and in words."""
MARK_WORDS = ("label", "line", "glyph", "colour")
"""What pictures want to know of a group of marks, and no number depends on."""


def proper(name: str) -> str:
    """A well-known name as people write it: `preresnet20` becomes PreResNet-20."""
    found = re.fullmatch(r"(preresnet|resnet|vgg|cifar|mnist|mlp|cnn)[_-]?(\d*)(.*)", name, re.I)
    if not found:
        return name
    stem, number, rest = found.groups()
    proper = {"preresnet": "PreResNet", "resnet": "ResNet"}.get(stem.lower(), stem.upper())
    return proper + (f"-{number}" if number else "") + rest


def network_label(factory: str, label: str | None = None, class_name: str = "") -> str:
    """The name of a network.

    Args:
        factory: a built-in name, `package.module:callable` or `path/file.py:callable`.
        label: the user's own name for it, which goes before all others.
        class_name: of the network that the factory made; empty where it is not known.

    Returns:
        `MyNet (my_model.py)`, or `ResNet (torchvision.models:resnet18)` where an installed
        package's callable is no class; a built-in name as people write it.
    """
    if label:
        return label
    place, colon, attribute = factory.rpartition(":")
    if not colon:
        return proper(factory)
    # A factory may be a path on someone's machine; only the file is named.
    where = place.rpartition("/")[2]
    name = class_name or attribute
    if not where.endswith(".py") and name != attribute:
        where = f"{where}:{attribute}"
    return f"{name} ({where})"


def loss_unit(loss: str, given: str | None, positions: int) -> str:
    """The unit of a loss; empty where it has none, or it is not known.

    Args:
        loss: as a spec names it.
        given: the unit of a loss of the user's own.
        positions: axes of the targets after the first: 1 is a sequence.
    """
    if loss == "bce_with_logits":
        return "nats per output" if positions else "nats per example"
    if loss not in OF_CLASSES:
        return given or ""
    return {0: "nats per example", 1: "nats per token"}.get(positions, "nats per position")


def words(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The names in a store's attributes. No number depends on them.

    Returns:
        `network`, a name, empty where it is not known; `labels`, one an anchor or none at all;
        `unit`, of the loss; and where there are marks, `marks`: label, line, glyph and colour of
        each group. Older stores have neither labels nor a unit: the unit is then nats for
        cross-entropy, and unknown for other losses.
    """
    network: Mapping[str, Any] = attrs.get("network") or {}
    spec: Mapping[str, Any] = attrs.get("spec") or {}
    factory = network.get("factory") or (spec.get("network") or {}).get("factory") or ""
    unit = attrs.get("unit")
    if unit is None:
        unit = "nats" if loss_name(attrs) == "cross_entropy" else ""
    marks = [{name: group[name] for name in MARK_WORDS} for group in attrs.get("marks") or ()]
    return {
        "network": network.get("label") or (network_label(str(factory)) if factory else ""),
        "labels": list(attrs.get("labels") or ()),
        "unit": unit,
        **({"marks": marks} if marks else {}),
    }


def loss_name(attrs: Mapping[str, Any]) -> str:
    """The loss of a store, as its spec names it."""
    evaluate = (attrs.get("spec") or {}).get("evaluate") or {}
    return str(evaluate.get("loss") or "cross_entropy")


def measures(loss: str, unit: str) -> dict[str, str]:
    """The unit of each quantity, or where it has none, what it is."""
    own = unit or SHOWN.get(loss, "")
    of_loss = short_unit(own) or "loss"
    squared, single = f"{of_loss} per squared distance", f"{of_loss} per distance"
    share = "share of the largest eigenvalue"
    return {
        "loss": own,
        "loss_stderr": own,
        "error": "fraction misclassified",
        **dict.fromkeys(("lambda_max", "lambda_min", "trace", "trace_stderr"), squared),
        "gradient_norm": single,
        "negative": "|smallest / largest eigenvalue|",
        "lambda_max_residual": share,
        "lambda_min_residual": share,
        "lanczos_steps": "products of the Hessian",
    }


def curvature(attrs: Mapping[str, Any]) -> str:
    """What curvature is measured of; empty without it."""
    asked: Mapping[str, Any] = attrs.get("curvature") or {}
    if not asked:
        return ""
    statistics = STATISTICS.get(str(asked.get("statistics")), "")
    examples = f"{asked['examples']:,} {asked['split']} examples"
    told = f"derivatives by all weights of the mean loss of {examples}"
    return told + (f", batch norm {statistics}" if statistics else "")


def short_unit(unit: str) -> str:
    """A unit as it follows a number, without `per example`."""
    return unit.removesuffix(" per example")


def amount(value: float, unit: str, digits: str = "g") -> str:
    """A number with its unit: `0.01 nats`; the number alone where there is none."""
    return f"{value:{digits}} {short_unit(unit)}".rstrip()


def batch_norm(attrs: Mapping[str, Any]) -> str:
    """How batch norm is treated, in a store's own words; empty where the network has none."""
    said = (attrs.get("network") or {}).get("batch_norm")
    return "" if not said or str(said).startswith("none") else str(said)


def selection(attrs: Mapping[str, Any], split: str) -> str:
    """How the examples of a split were chosen, in words; empty where that is not known."""
    noted = ((attrs.get("data") or {}).get(split) or {}).get("select")
    asked = ((attrs.get("spec") or {}).get("data") or {}).get("select")
    # An older store knows what was asked for. All but the first rows are a seeded sample.
    how = noted or {"head": "head", "stratified": "seeded"}.get(str(asked), "")
    return SELECTIONS.get(how, "")


def counts(attrs: Mapping[str, Any], splits: Mapping[str, int]) -> str:
    """`1,000 train + 500 test examples (class-stratified)`; a split's own words where they differ.

    Args:
        attrs: of the store.
        splits: how many examples each has.
    """
    how = {split: selection(attrs, split) for split in splits}
    if len(set(how.values())) > 1:
        told = (f"{n:,} {split}" + _aside(how[split]) for split, n in splits.items())
        return f"{' + '.join(told)} examples"
    told = (f"{n:,} {split}" for split, n in splits.items())
    return f"{' + '.join(told)} examples" + _aside(next(iter(how.values()), ""))


def own_losses(attrs: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Checkpoints whose loss differs with their own buffers, the largest difference first.

    Args:
        attrs: of the store, whose network may have `own_losses`.
        labels: the anchors' names as they are shown.

    Returns:
        One phrase an anchor, for the split with the largest difference: `end: 3.49 here, 1.08 with
        its own statistics`; it says `buffers` if other buffers than batch norms' differ.
    """
    what = "buffers" if buffers(attrs) else "statistics"
    noted: Sequence[Mapping[str, Any]] = (attrs.get("network") or {}).get("own_losses") or ()
    several = len({entry.get("split") for entry in noted}) > 1
    worst: dict[str, Mapping[str, Any]] = {}
    for entry in sorted(noted, key=_apart, reverse=True):
        worst.setdefault(str(entry["anchor"]), entry)
    return [
        f"{labels.get(anchor, anchor)}{_aside(str(entry['split'])) if several else ''}: "
        f"{_figure(entry['loss'])} here, {_figure(entry['own'])} with its own {what}"
        for anchor, entry in worst.items()
    ]


def shortened(phrases: Sequence[str], most: int = 1) -> str:
    """The first phrases, and how many more there are; empty where there are none."""
    more = len(phrases) - most
    return "; ".join(phrases[:most]) + (f"; {more:,} more" if more > 0 else "")


def buffers(attrs: Mapping[str, Any]) -> str:
    """Which checkpoint's buffers are used everywhere; empty where that changes nothing."""
    return str((attrs.get("network") or {}).get("buffers") or "")


def imported(attrs: Mapping[str, Any]) -> str:
    """Of a surface that another program computed, `imported from surface.h5`; else empty."""
    file = (attrs.get("imported") or {}).get("file")
    return f"imported from {file}" if file else ""


def checkpoints(attrs: Mapping[str, Any]) -> str:
    """How weights were found in their files; empty where that is plain.

    For example `a.pt, b.pt: names without module.`
    """
    return "; ".join((attrs.get("network") or {}).get("checkpoints") or ())


def _aside(text: str) -> str:
    return f" ({text})" if text else ""


def _apart(entry: Mapping[str, Any]) -> float:
    here, own = (float(entry[key]) for key in ("loss", "own"))
    apart = abs(here - own)
    return apart if math.isfinite(apart) else math.inf


def _figure(value: float) -> str:
    """Three digits of a loss."""
    return f"{value:.3g}".replace("-", "−") if math.isfinite(value) else f"{value:g}"

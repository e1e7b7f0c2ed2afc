"""What a user writes about marks: named sets of weights that are shown beside the plane."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipeline.spec_fields import Files, Label, SpecModel

Glyph = Literal["circle", "ring", "square", "diamond", "triangle", "cross", "plus"]
Source = Literal["weights", "swa", "swag"]


def _a_colour(text: str) -> str:
    """`text`, if it is a colour; for pydantic."""
    from PIL import ImageColor  # a spec without colours need not wait for it

    if re.fullmatch(r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})", text) or text in ImageColor.colormap:
        return text
    raise ValueError(
        f"{text!r} is no colour; wanted #rrggbb, #rgb, or the name of a CSS colour in lower case, "
        "such as crimson"
    )


Colour = Annotated[str, AfterValidator(_a_colour)]


class SwagSpec(SpecModel):
    """Samples of a Gaussian that is fitted to the weights along a training.

    Source: Maddox et al. 2019, arXiv:1902.02476, algorithm 1.
    """

    weights: Files
    rank: int = Field(default=20, ge=2)
    samples: int = Field(default=30, ge=1)
    scale: float = Field(default=0.5, gt=0)
    seed: int = Field(default=0, ge=0)


def _has_keys(given: object) -> object:
    """What `swag` is given, if it is a mapping; for pydantic."""
    if given is None or isinstance(given, dict | SwagSpec):
        return given
    raise ValueError(
        f"found {given!r}; wanted a mapping. Write swag: {{weights: run/epoch-*.pt, rank: 20}}"
    )


class MarksSpec(SpecModel):
    """A group of marks: checkpoints, the mean of some (SWA), or samples around it (SWAG)."""

    label: Label | None = None
    weights: Files | None = None
    swa: Files | None = None
    swag: Annotated[SwagSpec | None, BeforeValidator(_has_keys)] = None
    line: bool = False
    glyph: Glyph | None = None
    colour: Colour | None = None

    @model_validator(mode="after")
    def _of_one_source(self) -> Self:
        given = [name for name in ("weights", "swa", "swag") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"found {found}; wanted one of weights, swa and swag for each group")
        if self.line and given != ["weights"]:
            raise ValueError(
                f"line is true with {given[0]}, whose marks have no order; wanted it with weights. "
                "Leave it out"
            )
        return self

    @property
    def source(self) -> Source:
        """The key that says where the group's weights come from."""
        if self.swag is not None:
            return "swag"
        return "weights" if self.weights is not None else "swa"

    @property
    def files(self) -> str | tuple[str, ...]:
        """The checkpoints that the group is made of, as the spec has them."""
        found = self.swag.weights if self.swag is not None else self.weights or self.swa
        assert found is not None
        return found

    def with_files(self, files: str | tuple[str, ...]) -> MarksSpec:
        """The same group of other files."""
        if self.swag is not None:
            changed = self.swag.model_copy(update={"weights": files})
            return self.model_copy(update={"swag": changed})
        return self.model_copy(update={self.source: files})


def _are_groups(given: object) -> object:
    """What `marks` is given, if it is a list; for pydantic."""
    if isinstance(given, list | tuple):
        return given
    raise ValueError(
        f"found {given!r}; wanted a list of groups. Write marks: [{{weights: run/epoch-*.pt}}]"
    )


Groups = Annotated[tuple[MarksSpec, ...], BeforeValidator(_are_groups)]


def check_labels(groups: Sequence[MarksSpec]) -> None:
    """Raises ValueError where two groups have the same label, so that neither can be meant."""
    first: dict[str, int] = {}
    for number, group in enumerate(groups):
        if group.label is None:
            continue
        other = first.setdefault(group.label, number)
        if other != number:
            raise ValueError(
                f"marks[{other}] and marks[{number}] are both called {group.label}; wanted a label "
                "of its own for each group. Change one, or leave it out"
            )

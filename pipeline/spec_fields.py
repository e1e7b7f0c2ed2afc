"""Types for the fields of specs: names, labels, and models that refuse unknown keys."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pipeline import naming

_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # some scripts and emoji are written with them


class SpecModel(BaseModel):
    """The base of every part of a spec: frozen, refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def a_name(name: str) -> str:
    """`name`, if it may be the name of a file; for pydantic."""
    found = naming.fault(name)
    if found is not None:
        raise ValueError(
            f"{found}; wanted letters, digits and punctuation, such as train or test-2"
        )
    return name


def _lettered(text: str) -> str:
    """A text for pictures and tables: one line of visible characters."""
    shown = text.strip()
    hidden = [c for c in shown if unicodedata.category(c) in _INVISIBLE and c not in _JOINERS]
    if not shown or hidden:
        found = f"the character U+{ord(hidden[0]):04X} in it" if hidden else "nothing"
        raise ValueError(f"found {found}; wanted text of one line. Leave it out")
    return shown


def _are_files(given: object) -> object:
    """`given`, if it names files; for pydantic."""
    files = [given] if isinstance(given, str) else given
    if isinstance(files, list | tuple) and files and all(isinstance(f, str) and f for f in files):
        return given
    raise ValueError(
        f"found {given!r}; wanted a pattern such as run/epoch-*.pt, a folder, a file, or a list of "
        "files"
    )


Name = Annotated[str, Field(max_length=60), AfterValidator(_lettered)]
LONGEST_LABEL = 24
"""Characters that a label in a picture may have."""
Label = Annotated[str, Field(max_length=LONGEST_LABEL), AfterValidator(_lettered)]
Labels = tuple[Label, ...]
RunName = Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$"), AfterValidator(a_name)]
Files = Annotated[str | tuple[str, ...], BeforeValidator(_are_files)]

"""Docstrings that describe two names in one line, `low, high: …`: a line for each in the site."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Pairs(griffe.Extension):
    """Called by griffe for every object that has a docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            pair = r"^( +)(\w+), (\w+):( .+(?:\n\1 +\S.*)*)"
            apart = r"\1\2:\4\n\1\3: see `\2`."
            obj.docstring.value = re.sub(pair, apart, obj.docstring.value, flags=re.M)

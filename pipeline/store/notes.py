"""Notes in a store: small JSON objects, and the types of their numbers.

Notes are untrusted: numbers are no NaN, and not too large to be added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

Count = Annotated[int, Field(strict=True, ge=0, le=10**15)]
Amount = Annotated[float, Field(strict=True, ge=0, le=1e15)]


def parse(content: bytes) -> dict[str, Any] | None:
    """The JSON object in `content`; None if it is half-written or something else."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def to_bytes(note: Mapping[str, Any]) -> bytes:
    """The bytes of a note."""
    return json.dumps(note, indent=1).encode()

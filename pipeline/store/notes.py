"""Types of the numbers in notes. Notes are untrusted: no NaN, nothing too large to be added."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(strict=True, ge=0, le=10**15)]
Amount = Annotated[float, Field(strict=True, ge=0, le=1e15)]

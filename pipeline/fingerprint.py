"""Fingerprints: what decides a render's numbers, as comparable parts and as one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

Parts = Mapping[str, Any]


def digest_of_array(*arrays: np.ndarray[Any, Any]) -> str:
    """sha256 over the bytes of arrays, their dtypes and shapes."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def digest_of_parts(parts: Parts) -> str:
    """sha256 of the parts as canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def differences(stored: Parts, wanted: Parts) -> list[str]:
    """One line for each part that differs: its key, what the store has, what is wanted."""
    lines = []
    for key in sorted({*stored, *wanted}):
        old, new = stored.get(key), wanted.get(key)
        # Compared as JSON, since the stored parts have been through it.
        if json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True):
            lines.append(f"{key}: {_short(old)} in the store, {_short(new)} here")
    return lines


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    is_digest = isinstance(value, str) and len(text) == 64
    return f"{text[:12]}…" if is_digest else (text if len(text) < 60 else f"{text[:57]}…")

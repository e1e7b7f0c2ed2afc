"""The numbers of a web map: what its page reads out, as scripts that work from any place."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.store.layout import PREDICTED
from renders.source.surface import Surface

if TYPE_CHECKING:
    from pipeline.store.reader import StoreReader

_STEPS = 14
_UNKNOWN = 15


def doubts(
    store: StoreReader, quantity: str, split: str, frame: int
) -> npt.NDArray[np.float32] | None:
    """How far a frame may be off where it is predicted, float32 (height, width), in its unit.

    NaN where it is evaluated, and inf where it is predicted and nobody knows how well. None where
    nothing is predicted.
    """
    level = store.level(frame)
    if level is None or not (level == PREDICTED).any():
        return None
    expected = store.predicted_error(quantity, split, frame)
    return None if expected is None else np.where(level == PREDICTED, expected, np.nan)


def values_script(
    name: str, surface: Surface, unsure: npt.NDArray[np.float32] | None = None
) -> str:
    """The numbers of a surface as a script: float32, little endian, row by row from the lowest y.

    NaN and inf are themselves. A second string says which points are computed, one bit each,
    lowest bit first; it is null where all are. Where some are predicted there are `doubts`, four
    bits a point, the lower ones first: 0 where it is evaluated, k of 1 to 14 where it is predicted
    and off by at most 2 ** (top − 14 + k), and 15 where it is predicted and nobody knows how well.

    Args:
        name: of the layer.
        surface: its numbers.
        unsure: its `doubts`; None where nothing is predicted.
    """
    values = np.ascontiguousarray(surface.values, dtype="<f4")
    finished = "null"
    if not surface.finished.all():
        finished = _text(np.packbits(surface.finished.ravel(), bitorder="little"))
    more = ""
    if unsure is not None:
        top, packed = _packed(unsure)
        more = f", top: {top}, doubts: {_text(packed)}"
    return (
        f"(window.LOSSATLAS_VALUES ||= {{}})[{json.dumps(name)}] = "
        f"{{finished: {finished}, values: {_text(values)}{more}}};\n"
    )


def _packed(unsure: npt.NDArray[np.float32]) -> tuple[int, npt.NDArray[np.uint8]]:
    """The power of two that no error exceeds, and two codes a byte."""
    flat = unsure.astype("f8").ravel()
    finite = np.isfinite(flat)
    # Less than this is nothing, and has no logarithm.
    least = np.finfo("f4").tiny
    powers = np.ceil(np.log2(np.maximum(flat[finite], least)))
    top = int(powers.max(initial=0 if not finite.any() else -np.inf))
    codes = np.zeros(flat.size + flat.size % 2, "u1")
    codes[: flat.size][finite] = np.clip(powers - top + _STEPS, 1, _STEPS)
    codes[: flat.size][np.isposinf(flat)] = _UNKNOWN
    return top, codes[::2] | codes[1::2] << 4


def _text(array: npt.NDArray[np.generic]) -> str:
    return f'"{base64.b64encode(array.tobytes()).decode()}"'

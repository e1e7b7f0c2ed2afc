"""Arrays as networks take them: the layout of images, scale, normalisation, dtype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pipeline.problem.forward import Arrays
from pipeline.problem.split import DataError

if TYPE_CHECKING:
    from pipeline.spec import DataSpec, NormaliseSpec

_CHANNELS = (1, 3, 4)
# Bytes of fewer axes, among several inputs, are masks and ids rather than images.
_AXES_OF_IMAGES = 3


def inputs(
    raw: Arrays, rows: np.ndarray, spec: DataSpec, what: str, reals: type[np.floating]
) -> Arrays:
    """What a network's forward is called with.

    Args:
        raw: one array (n, …), several in a tuple, or several by name, as they are read.
        rows: their places in the source, for messages.
        spec: has the normalisation.
        what: they are, for messages.
        reals: what floats become.

    Raises:
        DataError: values that are not finite, or a normalisation that does not fit.
    """
    if isinstance(raw, np.ndarray):
        return prepared(raw, rows, spec.normalise, what, reals)
    if spec.normalise is not None:
        raise DataError(
            f"data.normalise is given and {what} are {len(raw)} arrays; wanted one array of "
            "images or vectors. Normalise in data.source, as file.py:callable"
        )
    if isinstance(raw, Mapping):
        return {
            name: prepared(_whole(each), rows, None, f"{what} ({name})", reals)
            for name, each in raw.items()
        }
    return tuple(
        prepared(_whole(each), rows, None, f"{what} ({place})", reals)
        for place, each in enumerate(raw)
    )


def told(raw: Arrays) -> str:
    """How inputs (n, …) are taken, in words; empty where all stay as they are."""
    if isinstance(raw, np.ndarray):
        return _layout(raw)
    named = raw.items() if isinstance(raw, Mapping) else enumerate(raw)
    texts = ((name, _layout(_whole(each))) for name, each in named)
    return "; ".join(f"{name} {text}" for name, text in texts if text)


def _whole(raw: np.ndarray) -> np.ndarray:
    """Bytes that are no images, as whole numbers."""
    return raw.astype(np.int64) if raw.dtype == np.uint8 and raw.ndim < _AXES_OF_IMAGES else raw


def prepared(
    raw: np.ndarray,
    rows: np.ndarray,
    normalise: NormaliseSpec | None,
    what: str,
    reals: type[np.floating],
) -> np.ndarray:
    """Inputs as a network takes them: channels first, scaled, normalised."""
    inputs = numbers(_channels_first(raw), what, reals, scale=True)
    check_finite(inputs, rows, what)
    if normalise is not None:
        inputs = _normalised(inputs, normalise, what)
    return np.ascontiguousarray(inputs)


def numbers(
    values: np.ndarray, what: str, reals: type[np.floating], scale: bool = False
) -> np.ndarray:
    """Whole numbers as int64, floats as `reals`; to `scale` turns bytes into [0, 1].

    Complex numbers become pairs of `reals`: complex64 or complex128.
    """
    require_numbers(values, what)
    if scale and values.dtype == np.uint8:
        scaled: np.ndarray = values.astype(reals) / reals(255)
        return scaled
    if values.dtype == np.bool_ or np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64)
    if np.issubdtype(values.dtype, np.complexfloating):
        return values.astype(np.result_type(reals, np.complex64))
    return values.astype(reals)


def require_numbers(values: np.ndarray, what: str) -> None:
    """Raises DataError where `values` are no numbers with a row an example."""
    if values.ndim and (values.dtype == np.bool_ or np.issubdtype(values.dtype, np.number)):
        return
    raise DataError(f"{what} are {values.dtype} {values.shape}; wanted numbers, one row an example")


def check_finite(values: np.ndarray, rows: np.ndarray, what: str) -> None:
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        row = rows[np.argmin(finite)]
        raise DataError(f"{what} hold NaN or inf in row {row}; wanted finite numbers. Mend the row")


def _channels_first(raw: np.ndarray) -> np.ndarray:
    """(n, height, width[, channels]) → (n, channels, height, width); the rest as it is."""
    if raw.ndim == 3 and raw.dtype == np.uint8:
        return raw[:, None]
    return raw.transpose(0, 3, 1, 2) if _is_channels_last(raw) else raw


def _is_channels_last(raw: np.ndarray) -> bool:
    """Whether (n, …) is taken for images with channels last. 1, 3 or 4 are channels."""
    if raw.ndim != 4:
        return False
    first, last = raw.shape[1] in _CHANNELS, raw.shape[3] in _CHANNELS
    return (last and not first) or (raw.dtype == np.uint8 and last >= first)


def _layout(raw: np.ndarray) -> str:
    """How inputs (n, …) are taken, in words; empty where they stay as they are."""
    is_bytes, told = raw.dtype == np.uint8, []
    if raw.ndim == 3 and is_bytes:
        told.append("grey images")
    elif _is_channels_last(raw):
        told.append("channels last, moved first")
    elif raw.ndim == 4 and is_bytes:
        told.append("channels first")
    if raw.ndim == 4 and raw.shape[1] in _CHANNELS and raw.shape[3] in _CHANNELS:
        other = "first" if _is_channels_last(raw) else "last"
        told = told or ["channels first"]
        told[0] += f" (channels {other} would fit too)"
    if is_bytes:
        told.append("scaled to [0, 1]")
    shape = ", ".join(map(str, ("n", *raw.shape[1:])))
    return f"{'bytes' if is_bytes else raw.dtype} ({shape}): {', '.join(told)}" if told else ""


def _normalised(inputs: np.ndarray, normalise: NormaliseSpec, what: str) -> np.ndarray:
    """(x − mean) / std by channel: the second axis."""
    channels, given = inputs.shape[1] if inputs.ndim > 1 else 1, len(normalise.mean)
    if inputs.dtype == np.int64:
        raise DataError(
            f"data.normalise is given and {what} are whole numbers; wanted images "
            "or vectors. Leave data.normalise out"
        )
    if given != channels and not (given == 1 and inputs.ndim == 2):
        raise DataError(
            f"data.normalise has {given} channels and {what} have {channels}; "
            "wanted as many. Mend data.normalise"
        )
    shape = (given,) + (1,) * (inputs.ndim - 2)
    reals = np.float32 if inputs.dtype == np.float32 else np.float64
    mean = np.array(normalise.mean, dtype=reals).reshape(shape)
    std = np.array(normalise.std, dtype=reals).reshape(shape)
    normalised: np.ndarray = (inputs - mean) / std
    return normalised

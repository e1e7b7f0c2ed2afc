"""Directions around one set of weights, random or given, and how long they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from pipeline.geometry.plane import Plane, PlaneError, Units, Vector, dot, norm

Normalise = Literal["filter", "layer", "none"]
Ignore = Literal["bias_norm", "none"]
Shapes = Mapping[str, tuple[int, ...]]
# A pattern of parameters' names → how many attention heads their first axis holds.
Heads = Mapping[str, int]

_UNITS: Mapping[Normalise, Units] = {
    "filter": "filter-normalised",
    "layer": "layer-normalised",
    "none": "directions",
}
# Directions with a smaller sine between them than this are one and the same but for rounding.
_PARALLEL = 1e-6


def random_directions(
    origin: Vector,
    shapes: Shapes,
    seed: int,
    normalise: Normalise = "filter",
    ignore: Ignore = "bias_norm",
    heads: Heads | None = None,
) -> Plane:
    """Two random Gaussian directions around `origin`, by default filter-normalised.

    Args:
        origin: trained weights θ, float64 (P,).
        shapes: the shape of each parameter, in the order of the flat vector.
        seed: of numpy's PCG64; the same plane on every machine.
        normalise, ignore, heads: as for `normalised`.

    Raises:
        PlaneError: `heads` do not fit the network.

    Source: Li et al. 2018, arXiv:1712.09913, §4.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    u, v = (
        normalised(generator.standard_normal(origin.size), origin, shapes, normalise, ignore, heads)
        for _ in range(2)
    )
    return Plane(origin, u, v, _UNITS[normalise])


def given_directions(
    origin: Vector,
    directions: Sequence[Vector],
    shapes: Shapes,
    normalise: Normalise = "filter",
    ignore: Ignore = "bias_norm",
    heads: Heads | None = None,
) -> Plane:
    """The plane along two given directions, or the line along one.

    Args:
        origin: trained weights θ, float64 (P,).
        directions: one or two, float64 (P,) each.
        shapes: the shape of each parameter, in the order of the flat vectors.
        normalise, ignore, heads: as for `normalised`.

    Raises:
        PlaneError: a direction is zero, both are parallel, or `heads` do not fit the network.
    """
    u, *rest = (normalised(each, origin, shapes, normalise, ignore, heads) for each in directions)
    for place, each in enumerate((u, *rest)):
        if norm(each) == 0:
            where = f"plane.directions[{place}]"
            left = "" if ignore == "none" else " without biases and norms (plane.ignore)"
            raise PlaneError(f"{where} is zero{left}; wanted a direction that moves weights")
    v = rest[0] if rest else np.zeros_like(u)
    if rest and norm(v - dot(u, v) / dot(u, u) * u) <= _PARALLEL * norm(v):
        raise PlaneError(
            "the two directions of the plane are parallel; wanted two that span a plane. Give one "
            "of them for a line"
        )
    return Plane(origin, u, v, _UNITS[normalise])


def normalised(
    direction: Vector,
    origin: Vector,
    shapes: Shapes,
    normalise: Normalise,
    ignore: Ignore,
    heads: Heads | None = None,
) -> Vector:
    """`direction` with the norms of `origin`.

    Args:
        direction: any scale, float64 (P,).
        origin: trained weights θ, float64 (P,).
        shapes: the shape of each parameter, in the order of the flat vectors.
        normalise: `filter`: each slice along a tensor's first axis gets the norm of the same slice
            of `origin`; a tensor of fewer than two axes counts as one filter. `layer`: each tensor
            gets the norm of the origin's. `none`: lengths stay.
        ignore: `bias_norm`: tensors of fewer than two axes (biases, norm scales) become zero, so
            that the plane never moves them.
        heads: with `filter`, parameters whose first axis holds so many heads of equal size, one
            after the other: each head counts as one filter.

    Returns:
        A new vector, float64 (P,). Where the direction is zero, it stays zero.

    Raises:
        PlaneError: the shapes do not add up to the vectors' length, or `heads` do not fit them.
    """
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    if sum(sizes) != origin.size or direction.size != origin.size:
        raise PlaneError(
            f"the direction has {direction.size:,} values and the weights {origin.size:,}; wanted "
            f"{sum(sizes):,}, as the network has"
        )
    of_heads = _heads_of(shapes, heads or {})
    found = np.zeros_like(origin)
    start = 0
    for (name, shape), size in zip(shapes.items(), sizes, strict=True):
        part = slice(start, start + size)
        start += size
        if len(shape) < 2 and ignore == "bias_norm":
            continue
        if normalise == "none":
            found[part] = direction[part]
            continue
        rows = shape[0] if normalise == "filter" and len(shape) > 1 else 1
        rows = of_heads.get(name, rows)
        filters = direction[part].reshape(rows, -1)
        wanted = np.linalg.norm(origin[part].reshape(rows, -1), axis=1, keepdims=True)
        own = np.linalg.norm(filters, axis=1, keepdims=True)
        found[part] = (filters * (wanted / np.where(own > 0, own, 1))).ravel()
    return found


def _heads_of(shapes: Shapes, heads: Heads) -> dict[str, int]:
    """How many heads each parameter has that a pattern names.

    Raises:
        PlaneError: a pattern names none, or one whose first axis is not of so many heads.
    """
    found: dict[str, int] = {}
    for pattern, count in heads.items():
        names = [name for name in shapes if fnmatchcase(name, pattern)]
        if not names:
            raise PlaneError(
                f"plane.heads: no parameter is called {pattern}; wanted names such as "
                f"{next(iter(shapes), 'none')}. Use * for any part of a name"
            )
        for name in names:
            if shapes[name][:1] == () or shapes[name][0] % count:
                raise PlaneError(
                    f"plane.heads: {name} {shapes[name]} does not divide into {count} heads along "
                    f"its first axis; wanted a divisor of {shapes[name][0] if shapes[name] else 0}"
                )
        found |= dict.fromkeys(names, count)
    return found


def filter_normalise(direction: Vector, origin: Vector, shapes: Shapes) -> Vector:
    """Give each filter of `direction` the norm of the same filter of `origin`.

    A filter is one slice along a tensor's first axis. Tensors of fewer than two axes
    (biases, norm scales) become zero: the plane never moves them.

    Args:
        direction: any scale, float64 (P,).
        origin: trained weights θ, float64 (P,).
        shapes: the shape of each parameter, in the order of the flat vectors.

    Returns:
        A new vector with ‖d_ij‖₂ = ‖θ_ij‖₂ for filter j of layer i.

    Raises:
        PlaneError: the shapes do not add up to the vectors' length.

    Source: Li et al. 2018, arXiv:1712.09913, §4.
    """
    return normalised(direction, origin, shapes, "filter", "bias_norm")

"""The interpolating cubic B-spline: C², exact at the grid points, exact for cubics.

With coefficients c and second differences m_k = c_{k-1} − 2c_k + c_{k+1}, the value at a knot is
c_k + m_k/6 and the second derivative there is m_k. Interpolation then reads
m_{k-1} + 4m_k + m_{k+1} = 6(f_{k-1} − 2f_k + f_{k+1}), and the not-a-knot ends collapse to
m_1 = f_0 − 2f_1 + f_2: one tridiagonal sweep along each axis.

Source: de Boor, A Practical Guide to Splines (1978), ch. IV; Unser 1999, doi:10.1109/79.799930.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def coefficients(values: npt.ArrayLike) -> FloatArray:
    """B-spline coefficients of a grid of finite values.

    Args:
        values: (height, width), any size from 1 × 1; axes of two or three points become linear
            or quadratic, an axis of one point is constant.

    Returns:
        float64 (max(height, 2) + 2, max(width, 2) + 2): one coefficient before and one after.
    """
    along_y = _along_first(np.asarray(values, dtype=np.float64))
    return np.ascontiguousarray(_along_first(along_y.T).T)


def _along_first(f: FloatArray) -> FloatArray:
    if len(f) == 1:
        f = np.repeat(f, 2, axis=0)
    n = len(f)
    m = np.zeros_like(f)
    if n >= 3:
        m[1:-1] = f[:-2] - 2 * f[1:-1] + f[2:]
    if n > 4:
        _solve(m)
    if n >= 3:
        # n = 3 has one second difference only, and a parabola keeps it everywhere.
        m[0] = 2 * m[1] - m[min(2, n - 2)]
        m[-1] = 2 * m[-2] - m[max(n - 3, 1)]
    c = np.empty((n + 2, f.shape[1]))
    c[1:-1] = f - m / 6
    c[0] = 2 * c[1] - c[2] + m[0]
    c[-1] = 2 * c[-2] - c[-3] + m[-1]
    return c


def _solve(m: FloatArray) -> None:
    # Rows 1 and n−2 are known already; the Thomas sweep runs between them, in place.
    n = len(m)
    ratio = np.zeros(n)
    rhs = 6 * m
    rhs[1], rhs[n - 2] = m[1], m[n - 2]
    for k in range(2, n - 2):
        ratio[k] = 1 / (4 - ratio[k - 1])
        rhs[k] = (rhs[k] - rhs[k - 1]) * ratio[k]
    m[n - 2] = rhs[n - 2]
    for k in range(n - 3, 1, -1):
        m[k] = rhs[k] - ratio[k] * m[k + 1]


def evaluate(
    coef: FloatArray, u: npt.ArrayLike, v: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The spline and its gradient at scattered points; the reference for the fused kernel.

    Args:
        coef: from `coefficients`.
        u, v: grid coordinates of the same shape: column and row, 0 at the first grid point.

    Returns:
        value, ∂/∂u, ∂/∂v: float64 of the shape of `u`, per grid step.
    """
    ku, wu, du = _weights(np.asarray(u, dtype=np.float64), coef.shape[1])
    kv, wv, dv = _weights(np.asarray(v, dtype=np.float64), coef.shape[0])
    value, grad_u, grad_v = (np.zeros(ku.shape) for _ in range(3))
    for j in range(4):
        row = np.zeros(ku.shape)
        slope = np.zeros(ku.shape)
        for i in range(4):
            c = coef[kv + j, ku + i]
            row += c * wu[i]
            slope += c * du[i]
        value += wv[j] * row
        grad_v += dv[j] * row
        grad_u += wv[j] * slope
    return value, grad_u, grad_v


def basis(u: npt.ArrayLike, size: int) -> FloatArray:
    """The spline's weights as a matrix: `basis(v, rows) @ coef @ basis(u, columns).T` is a grid.

    Args:
        u: grid coordinates, (n,).
        size: of the coefficients along this axis.

    Returns:
        float64 (n, size).
    """
    k, weights, _ = _weights(np.asarray(u, dtype=np.float64), size)
    matrix = np.zeros((len(k), size))
    for i, weight in enumerate(weights):
        matrix[np.arange(len(k)), k + i] += weight
    return matrix


def _weights(
    u: FloatArray, size: int
) -> tuple[npt.NDArray[np.int64], tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    k = np.clip(np.floor(u), 0, size - 4).astype(np.int64)
    t = u - k
    r = 1 - t
    weights = (r**3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (4 - 6 * r**2 + 3 * r**3) / 6, t**3 / 6)
    slopes = (-(r**2) / 2, (-4 * t + 3 * t**2) / 2, (4 * r - 3 * r**2) / 2, t**2 / 2)
    return k, weights, slopes

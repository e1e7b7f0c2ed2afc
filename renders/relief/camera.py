"""The camera: where it stands, and the one framing that keeps a model inside a box.

World coordinates are the terrain's. A perspective camera looks at the model's middle; its distance
is not asked for but found, so that nothing of the model is ever cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import LossatlasError
from renders.box import Box
from renders.colour import FloatArray

ALTITUDES = (math.radians(4), math.radians(90))
LENSES = (math.radians(5), math.radians(100))


class CameraError(LossatlasError):
    """A camera that cannot stand or see as asked."""


@dataclass(frozen=True)
class Camera:
    """From where one looks; all angles are radians.

    Attributes:
        azimuth: where the camera stands, clockwise from +y; at π it looks along +y, and the
            picture lies as the map does.
        altitude: above the horizon; π/2 looks straight down.
        lens: the angle of view across the box that the model is fitted into.
    """

    azimuth: float = math.radians(160)
    altitude: float = math.radians(38)
    lens: float = math.radians(26)


@dataclass(frozen=True, eq=False)
class Shot:
    """A camera in its place.

    Attributes:
        position: world, float64 (3,).
        axes: float64 (3, 3): to the right, upwards and forwards, unit vectors.
        focal_px: pixels a unit of tangent.
        centre: where the axis of view meets the picture, pixels.
    """

    position: FloatArray
    axes: FloatArray
    focal_px: float
    centre: tuple[float, float]

    def project(self, points: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """World points (…, 3) as picture x and y in pixels, y downwards, and depth along the axis.

        A pixel's centre is at half a pixel. Depth is positive in front of the camera.
        """
        across, up, depth = np.moveaxis((points - self.position) @ self.axes.T, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            x = self.centre[0] + self.focal_px * across / depth
            y = self.centre[1] - self.focal_px * up / depth
        return x, y, depth


@dataclass(frozen=True)
class Framing:
    """How far the camera stands from `target`, and where the axis of view meets the picture."""

    target: tuple[float, float, float]
    distance: float
    focal_px: float
    centre: tuple[float, float]

    def shot(self, camera: Camera) -> Shot:
        axes, away = _axes(camera)
        return Shot(np.array(self.target) + self.distance * away, axes, self.focal_px, self.centre)


def framed(cameras: Sequence[Camera], hull: FloatArray, inside: Box) -> Framing:
    """The nearest framing from which all of `hull` lies within a box, for all cameras alike.

    Args:
        cameras: at least one; those of a flight share one distance, or the model would breathe.
            The first one's lens counts.
        hull: world points, float64 (n, 3), whose convex hull holds the model.
        inside: pixels.
    """
    low, high = hull.min(axis=0), hull.max(axis=0)
    target = (low + high) / 2
    reach = float(np.linalg.norm(hull - target, axis=1).max())
    focal = inside.width / 2 / math.tan(cameras[0].lens / 2)
    turned = [(hull - target) @ axes.T for axes, _ in map(_axes, cameras)]

    def bounds(distance: float) -> tuple[float, float, float, float]:
        sides = []
        for across, up, depth in (np.moveaxis(points, -1, 0) for points in turned):
            x, y = focal * across / (depth + distance), -focal * up / (depth + distance)
            sides.append((x.min(), x.max(), y.min(), y.max()))
        left, right, top, bottom = np.array(sides).T
        return float(left.min()), float(right.max()), float(top.min()), float(bottom.max())

    near, far = 1.02 * reach, 1.02 * reach
    while not _fits(bounds(far), inside):
        far *= 2
    for _ in range(50):
        middle = (near + far) / 2
        near, far = (near, middle) if _fits(bounds(middle), inside) else (middle, far)
    left, right, top, bottom = bounds(far)
    centre = (
        inside.x + inside.width / 2 - (left + right) / 2,
        inside.y + inside.height / 2 - (top + bottom) / 2,
    )
    return Framing((float(target[0]), float(target[1]), float(target[2])), far, focal, centre)


def _fits(bounds: tuple[float, float, float, float], inside: Box) -> bool:
    left, right, top, bottom = bounds
    return right - left <= inside.width and bottom - top <= inside.height


def _axes(camera: Camera) -> tuple[FloatArray, FloatArray]:
    """Right, up, forward as rows, and the unit vector from the target to the camera."""
    sin_a, cos_a = math.sin(camera.azimuth), math.cos(camera.azimuth)
    sin_h, cos_h = math.sin(camera.altitude), math.cos(camera.altitude)
    away = np.array([cos_h * sin_a, cos_h * cos_a, sin_h])
    right = np.array([-cos_a, sin_a, 0.0])
    up = np.array([-sin_h * sin_a, -sin_h * cos_a, cos_h])
    return np.stack([right, up, -away]), away


def camera_from(text: str) -> Camera:
    """The camera that `AZIMUTH,ALTITUDE[,LENS]` says, in degrees.

    Raises:
        CameraError: not two or three numbers, or out of range.
    """
    wanted = "wanted AZIMUTH,ALTITUDE or AZIMUTH,ALTITUDE,LENS in degrees, such as 200,30"
    try:
        angles = [math.radians(float(part)) for part in text.split(",")]
    except ValueError:
        raise CameraError(f"camera is {text!r}: {wanted}") from None
    if len(angles) not in (2, 3) or not all(map(math.isfinite, angles)):
        raise CameraError(f"camera is {text!r}: {wanted}")
    camera = Camera(*angles)
    for what, value, (least, most) in (
        ("altitude", camera.altitude, ALTITUDES),
        ("lens", camera.lens, LENSES),
    ):
        if not least - 1e-9 <= value <= most + 1e-9:
            raise CameraError(
                f"the camera's {what} is {math.degrees(value):g}: wanted "
                f"{math.degrees(least):g} to {math.degrees(most):g} degrees"
            )
    return camera

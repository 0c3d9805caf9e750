"""Exact pictures of scenes: anti-aliased, at any size. Imports no torch."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.demo.vocabulary import COLOURS
from worker.demo.world import Scene, Thing

NATIVE_SIZE = 256

Pixels = NDArray[np.float32]

_CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.89, -0.89), (0.89, -0.89), (0.89, 0.89), (-0.89, 0.89)),
    "triangle": ((0.0, -1.1), (1.1, 0.9), (-1.1, 0.9)),
    "diamond": ((0.0, -1.1), (1.1, 0.0), (0.0, 1.1), (-1.1, 0.0)),
}
"""Corners in radii from the centre, clockwise on the screen; every shape is convex."""


def coverage(thing: Thing | None, width: int = NATIVE_SIZE, height: int = NATIVE_SIZE) -> Pixels:
    """Share of every pixel that the object covers, as an array of height x width."""
    if thing is None:
        return np.zeros((height, width), np.float32)
    radius = thing.radius * min(width, height)
    across = np.arange(width, dtype=np.float32) + 0.5 - thing.centre[0] * width
    down = np.arange(height, dtype=np.float32)[:, None] + 0.5 - thing.centre[1] * height
    if thing.shape == "circle":
        distance = np.hypot(across, down) - radius
    else:
        distance = _distance_to_polygon(across, down, np.array(_CORNERS[thing.shape]) * radius)
    # A pixel is one unit wide, so a distance of half a unit is fully out or fully in.
    share: Pixels = np.clip(0.5 - distance, 0.0, 1.0).astype(np.float32)
    return share


def _distance_to_polygon(across: Pixels, down: Pixels, corners: NDArray[np.float64]) -> Pixels:
    """Signed distance to the nearest edge line of a convex polygon, negative inside."""
    distance = np.full(np.broadcast_shapes(across.shape, down.shape), -np.inf, np.float32)
    for (x0, y0), (x1, y1) in pairwise([*corners, corners[0]]):
        length = float(np.hypot(x1 - x0, y1 - y0))
        outwards = ((y1 - y0) * (across - x0) - (x1 - x0) * (down - y0)) / length
        np.maximum(distance, outwards, out=distance)
    return distance


def pixels(scene: Scene, width: int = NATIVE_SIZE, height: int = NATIVE_SIZE) -> Pixels:
    """Render a scene to RGB levels between 0 and 255, height x width x 3."""
    background = np.array(COLOURS[scene.background], np.float32)
    if scene.thing is None:
        return np.broadcast_to(background, (height, width, 3)).copy()
    share = coverage(scene.thing, width, height)[..., None]
    mixed: Pixels = background + share * (np.array(COLOURS[scene.thing.colour], np.float32) - background)
    return mixed


def render(scene: Scene, width: int = NATIVE_SIZE, height: int = NATIVE_SIZE) -> Image.Image:
    """Render a scene to a Pillow image."""
    return Image.fromarray(np.rint(pixels(scene, width, height)).astype(np.uint8))

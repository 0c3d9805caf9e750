"""Read a picture back into words: what stands where, in which colours. Imports no torch."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worker.demo.renderer import Pixels, coverage
from worker.demo.vocabulary import COLOURS, POSITIONS, SHAPES
from worker.demo.world import COLUMN_STEP, RADII, Scene, Thing

FRAME = 1 / 64
"""Width of the frame that shows background only, as a share of the side."""

MAX_COLOUR_DISTANCE = 60.0
"""Farther than this from every palette colour, in RGB levels, a colour has no name."""

MIN_CONTRAST = 40.0
"""A pixel this far from the background, in RGB levels, belongs to an object."""

MIN_AREA = 0.004
"""Share of the picture below which specks are no object."""

MIN_SHAPE_IOU = 0.75
"""Overlap with the best template below which a blob has no shape."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Reading:
    """What a picture shows; None where it is no colour, object or shape of the tiny world."""

    background: str | None
    colour: str | None
    shape: str | None
    size: str | None
    position: str | None
    mask: Mask
    shape_iou: float

    @property
    def is_empty(self) -> bool:
        """Whether there is no object."""
        return self.position is None


def read(picture: NDArray[np.generic]) -> Reading:
    """Read an RGB picture with levels from 0 to 255, height x width x 3."""
    levels = picture.astype(np.float32)
    ground = _background(levels)
    background = name_colour(ground)
    mask = _object_mask(levels, ground)
    if mask.mean() < MIN_AREA:
        return Reading(background, None, None, None, None, np.zeros_like(mask), 0.0)
    colour = name_colour(np.median(levels[mask], axis=0).astype(np.float32))
    shape, size, overlap = _shape_and_size(mask)
    return Reading(background, colour, shape, size, _position(mask), mask, overlap)


def matches(reading: Reading, scene: Scene) -> dict[str, bool]:
    """Compare every attribute with the scene's; for an empty scene all of the object's must be absent."""
    thing = scene.thing
    expected = {
        "background": scene.background,
        "colour": thing.colour if thing else None,
        "shape": thing.shape if thing else None,
        "size": thing.size if thing else None,
        "position": thing.position if thing else None,
    }
    return {name: getattr(reading, name) == value for name, value in expected.items()}


def name_colour(colour: Pixels) -> str | None:
    """Name the nearest palette colour, if it is near at all."""
    distances = {name: float(np.linalg.norm(colour - np.array(rgb))) for name, rgb in COLOURS.items()}
    nearest = min(distances, key=lambda name: distances[name])
    return nearest if distances[nearest] <= MAX_COLOUR_DISTANCE else None


def intersection_over_union(one: Mask, other: Mask) -> float:
    """Overlap of two masks; two empty ones overlap fully."""
    union = np.logical_or(one, other).sum()
    return float(np.logical_and(one, other).sum() / union) if union else 1.0


def mean_difference(one: NDArray[np.generic], other: NDArray[np.generic], where: Mask) -> float:
    """Mean absolute difference of two pictures in levels, over the pixels of the mask."""
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32))[where].mean())


def _background(levels: Pixels) -> Pixels:
    """Take the median of the frame."""
    width = max(2, round(min(levels.shape[:2]) * FRAME))
    inner = np.zeros(levels.shape[:2], bool)
    inner[width:-width, width:-width] = True
    return np.median(levels[~inner], axis=0).astype(np.float32)


def _object_mask(levels: Pixels, ground: Pixels) -> Mask:
    """Find the pixels that are more object than background."""
    far = np.linalg.norm(levels - ground, axis=2) > MIN_CONTRAST
    if far.mean() < MIN_AREA:
        return np.zeros_like(far)
    direction = np.median(levels[far], axis=0) - ground
    share = (levels - ground) @ direction / float(direction @ direction)
    mask: Mask = share > 0.5
    return mask


def _position(mask: Mask) -> str:
    """Name the place nearest to the middle of the mask."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    middle = (np.median(columns) / width - 0.5, np.median(rows) / height - 0.5)

    def distance(name: str) -> float:
        column, row = POSITIONS[name]
        return float(np.hypot(middle[0] - COLUMN_STEP * column, middle[1] - COLUMN_STEP * row))

    return min(POSITIONS, key=distance)


def _shape_and_size(mask: Mask) -> tuple[str | None, str, float]:
    """Fit every shape to the mask's area and centre and keep the best; its radius tells the size."""
    fits = {shape: _fit(mask, shape) for shape in SHAPES}
    best = max(fits, key=lambda shape: fits[shape][0])
    overlap, radius = fits[best]
    middle = float(np.sqrt(RADII["small"] * RADII["large"]))
    return (best if overlap >= MIN_SHAPE_IOU else None), ("small" if radius < middle else "large"), overlap


def _fit(mask: Mask, shape: str) -> tuple[float, float]:
    """Overlap with the template of equal area and centre, and the template's radius."""
    height, width = mask.shape
    template = Thing("red", shape, "small", "center")
    nominal = coverage(template, width, height)
    scale = float(np.sqrt(mask.sum() / nominal.sum()))
    shift_x, shift_y = (_centre(mask)[i] - 0.5 - scale * (_centre(nominal)[i] - 0.5) for i in (0, 1))
    fitted = coverage(replace(template, stretch=scale, offset=(shift_x, shift_y)), width, height) > 0.5
    return intersection_over_union(mask, fitted), RADII["small"] * scale


def _centre(weights: NDArray[np.generic]) -> tuple[float, float]:
    """Centre of mass as shares of width and height."""
    shares = weights.astype(np.float64)
    total = float(shares.sum())
    height, width = shares.shape
    across = float(shares.sum(axis=0) @ (np.arange(width) + 0.5)) / total / width
    down = float(shares.sum(axis=1) @ (np.arange(height) + 0.5)) / total / height
    return across, down

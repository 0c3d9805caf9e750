"""The tiny world: one flat object, or none, on a flat background. Imports no torch."""

import random
from dataclasses import dataclass, replace
from itertools import product

from worker.demo.vocabulary import COLOURS, POSITIONS, SHAPES, SIZES

RADII = {"small": 0.11, "large": 0.20}
"""Radius of the object as a share of the shorter side."""

COLUMN_STEP = 0.25
"""Distance of neighbouring places as a share of the side."""

MAX_OFFSET = 1 / 128
MAX_STRETCH = 0.02
"""How far place and radius stray from the named ones: what a seed decides."""


@dataclass(frozen=True)
class Thing:
    """The object of a scene; the floats are what no caption names."""

    colour: str
    shape: str
    size: str
    position: str
    offset: tuple[float, float] = (0.0, 0.0)
    stretch: float = 1.0

    @property
    def centre(self) -> tuple[float, float]:
        """Place of the centre as shares of width and height."""
        column, row = POSITIONS[self.position]
        return (0.5 + COLUMN_STEP * column + self.offset[0], 0.5 + COLUMN_STEP * row + self.offset[1])

    @property
    def radius(self) -> float:
        """Radius as a share of the shorter side."""
        return RADII[self.size] * self.stretch


@dataclass(frozen=True)
class Scene:
    """A picture of the tiny world."""

    background: str
    thing: Thing | None = None

    @property
    def held_out(self) -> bool:
        """Whether the combination of colour, shape and background is kept out of training."""
        return self.thing is not None and is_held_out(self.thing.colour, self.thing.shape, self.background)

    @property
    def visible(self) -> bool:
        """Whether the object stands out from the background."""
        return self.thing is None or self.thing.colour != self.background

    def with_thing(self, **changes: str) -> "Scene":
        """Copy the scene with some attributes of its object changed."""
        if self.thing is None:
            raise ValueError("an empty scene has no object to change")
        # mypy cannot see that the names are those of the str fields.
        return replace(self, thing=replace(self.thing, **changes))  # type: ignore[arg-type]


def is_held_out(colour: str, shape: str, background: str) -> bool:
    """Keep one colour in eight out, another one for every shape and background."""
    names = list(COLOURS)
    return (names.index(colour) + 3 * SHAPES.index(shape) + 5 * names.index(background)) % 8 == 0


HELD_OUT: tuple[tuple[str, str, str], ...] = tuple(
    (colour, shape, background)
    for colour, shape, background in product(COLOURS, SHAPES, COLOURS)
    if colour != background and is_held_out(colour, shape, background)
)
"""The combinations of colour, shape and background that never appear in training."""


def random_scene(rng: random.Random, *, held_out: bool = False, empty_share: float = 0.0) -> Scene:
    """Draw a scene from the training side of the world, or from the held-out side."""
    if rng.random() < empty_share:
        return Scene(rng.choice(list(COLOURS)))
    while True:
        background, colour = rng.sample(list(COLOURS), 2)
        shape, size, position = rng.choice(SHAPES), rng.choice(SIZES), rng.choice(list(POSITIONS))
        if is_held_out(colour, shape, background) == held_out:
            return Scene(background, stray(Thing(colour, shape, size, position), rng))


def stray(thing: Thing, rng: random.Random) -> Thing:
    """Draw anew what no caption names: a slight offset and a slight stretch."""
    offset = (rng.uniform(-MAX_OFFSET, MAX_OFFSET), rng.uniform(-MAX_OFFSET, MAX_OFFSET))
    return replace(thing, offset=offset, stretch=1.0 + rng.uniform(-MAX_STRETCH, MAX_STRETCH))

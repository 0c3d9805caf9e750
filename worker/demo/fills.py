"""Exact fills: a scene, a mask, a prompt, and the scene that it must become. Imports no torch."""

import random
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worker.demo.captions import any_caption, full_caption, place, with_article
from worker.demo.renderer import NATIVE_SIZE
from worker.demo.vocabulary import POSITIONS
from worker.demo.world import COLUMN_STEP, Scene, Thing, random_scene

FULL_CAPTION_SHARE = 0.7
"""Share of prompts that name everything; the others say it in other words."""


@dataclass(frozen=True)
class Box:
    """A rectangle to repaint, in pixels; the far edges are not part of it."""

    left: int
    top: int
    right: int
    bottom: int

    def mask(self, width: int = NATIVE_SIZE, height: int = NATIVE_SIZE) -> NDArray[np.float32]:
        """One inside the box and zero outside, height x width."""
        mask = np.zeros((height, width), np.float32)
        mask[self.top : self.bottom, self.left : self.right] = 1.0
        return mask


@dataclass(frozen=True)
class Fill:
    """One exact pair. The mask hides the whole object of the source, and all of the target's."""

    prompt: str
    source: Scene
    target: Scene
    box: Box


def random_fill(rng: random.Random, *, held_out: bool = False) -> Fill:
    """Draw a fill: an object is drawn, exchanged or wiped away inside the box."""
    target = random_scene(rng, held_out=held_out, empty_share=0.0 if held_out else 0.2)
    source = _source_for(target, rng)
    things = [thing for thing in (source.thing, target.thing) if thing is not None]
    box = random_box(things, rng)
    prompt = full_caption(target) if rng.random() < FULL_CAPTION_SHARE else _any_prompt(target, box, rng)
    return Fill(prompt, source, target, box)


def _any_prompt(target: Scene, box: Box, rng: random.Random) -> str:
    """Leave out what the picture shows: the background, and the place where the box is around it."""
    thing = target.thing
    if thing is None or rng.random() < 0.5:
        return any_caption(target, rng)
    named = with_article(f"{thing.size} {thing.colour} {thing.shape}")
    column, row = POSITIONS[thing.position]
    middle = (box.left + box.right) / 2 / NATIVE_SIZE, (box.top + box.bottom) / 2 / NATIVE_SIZE
    off = max(abs(middle[0] - 0.5 - COLUMN_STEP * column), abs(middle[1] - 0.5 - COLUMN_STEP * row))
    return named if off < COLUMN_STEP / 2 else f"{named} {place(thing.position)}"


def _source_for(target: Scene, rng: random.Random) -> Scene:
    """Draw what was there before: nothing, or another object on the same background."""
    if target.thing is not None and rng.random() < 0.5:
        return replace(target, thing=None)
    while True:
        other = replace(random_scene(rng), background=target.background)
        if other.visible and not other.held_out:
            return other


def random_box(things: list[Thing], rng: random.Random) -> Box:
    """Draw a box that hides the things with room to spare."""
    spans = [_span([(thing.centre[axis], thing.radius) for thing in things], rng) for axis in (0, 1)]
    return Box(spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def _span(extents: list[tuple[float, float]], rng: random.Random) -> tuple[int, int]:
    """Draw the near and far edge of a box along one axis."""
    if not extents:
        return _span([(rng.uniform(0.3, 0.7), 0.15)], rng)
    near = min(centre - 1.2 * radius for centre, radius in extents) * NATIVE_SIZE - rng.uniform(0, 40)
    far = max(centre + 1.2 * radius for centre, radius in extents) * NATIVE_SIZE + rng.uniform(0, 40)
    return max(0, int(near)), min(NATIVE_SIZE, int(far) + 1)

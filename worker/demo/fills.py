"""Exact fills: a scene, a mask, a prompt, and the scene that it must become. Imports no torch."""

import random
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worker.demo.captions import any_caption, full_caption
from worker.demo.renderer import NATIVE_SIZE
from worker.demo.world import Scene, Thing, random_scene

FULL_CAPTION_SHARE = 0.7


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
    prompt = full_caption(target) if rng.random() < FULL_CAPTION_SHARE else any_caption(target, rng)
    return Fill(prompt, source, target, random_box(things, rng))


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

"""Exact edits: a scene, an instruction, and the scene that it must become. Imports no torch."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from worker.demo.captions import place, with_article
from worker.demo.vocabulary import COLOURS, POSITIONS, SHAPES
from worker.demo.world import Scene, random_scene


@dataclass(frozen=True)
class Edit:
    """One exact pair. `kind` names the attribute that changes; all else stays."""

    kind: str
    instruction: str
    source: Scene
    target: Scene


def random_edit(rng: random.Random, *, held_out: bool = False, kind: str | None = None) -> Edit:
    """Draw an edit whose scenes lie in training, or one that needs a held-out scene."""
    while True:
        chosen = kind or rng.choice(list(_EDITS))
        source = random_scene(rng, held_out=held_out and rng.random() < 0.5)
        edit = _EDITS[chosen](source, rng)
        if edit.source == edit.target or not edit.target.visible:
            continue
        if (edit.source.held_out or edit.target.held_out) == held_out:
            return edit


def _recolour(source: Scene, rng: random.Random) -> Edit:
    """Give the object another colour."""
    colour = rng.choice(list(COLOURS))
    it = _it(source, rng)
    forms = (
        f"make it {colour}",
        f"make {it} {colour}",
        f"turn {it} {colour}",
        f"paint {it} {colour}",
        f"change its color to {colour}",
        f"change the colour of {it} to {colour}",
    )
    return Edit("colour", rng.choice(forms), source, source.with_thing(colour=colour))


def _repaint_background(source: Scene, rng: random.Random) -> Edit:
    """Give the background another colour."""
    colour = rng.choice(list(COLOURS))
    forms = (
        f"make the background {colour}",
        f"change the background to {colour}",
        f"turn the background {colour}",
        f"paint the background {colour}",
        f"put it on {with_article(colour)} background",
    )
    return Edit("background", rng.choice(forms), source, replace(source, background=colour))


def _reshape(source: Scene, rng: random.Random) -> Edit:
    """Turn the object into another shape."""
    shape = rng.choice(SHAPES)
    it = _it(source, rng)
    forms = (
        f"turn it into a {shape}",
        f"turn {it} into a {shape}",
        f"make it a {shape}",
        f"change it to a {shape}",
        f"change {it} into a {shape}",
    )
    return Edit("shape", rng.choice(forms), source, source.with_thing(shape=shape))


def _resize(source: Scene, rng: random.Random) -> Edit:
    """Make the object large or small."""
    size = rng.choice(("small", "large"))
    comparatives = {"small": ("smaller", "small"), "large": ("larger", "bigger", "large")}
    word = rng.choice(comparatives[size])
    instruction = f"make {rng.choice(('it', _it(source, rng)))} {word}"
    return Edit("size", instruction, source, source.with_thing(size=size))


def _move(source: Scene, rng: random.Random) -> Edit:
    """Move the object to another of the nine places."""
    position = rng.choice(list(POSITIONS))
    words = rng.choice((position, position.replace("center", "middle")))
    it = _it(source, rng)
    forms = (f"move it to the {words}", f"move {it} to the {words}", f"put it {place(position)}")
    return Edit("position", rng.choice(forms), source, source.with_thing(position=position))


def _remove(source: Scene, rng: random.Random) -> Edit:
    """Leave the background only."""
    it = _it(source, rng)
    forms = ("remove it", f"remove {it}", f"delete {it}", "remove the object", "make it empty")
    return Edit("removal", rng.choice(forms), source, replace(source, thing=None))


def _it(source: Scene, rng: random.Random) -> str:
    """Speak of the object."""
    thing = source.thing
    if thing is None:
        return "it"
    return rng.choice(("it", "it", f"the {thing.shape}", f"the {thing.colour} {thing.shape}"))


_EDITS: dict[str, Callable[[Scene, random.Random], Edit]] = {
    "colour": _recolour,
    "background": _repaint_background,
    "shape": _reshape,
    "size": _resize,
    "position": _move,
    "removal": _remove,
}

EDIT_KINDS: tuple[str, ...] = tuple(_EDITS)

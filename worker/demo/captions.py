"""What is said of a scene: one full caption and many shorter ones. Imports no torch."""

import random

from worker.demo.world import Scene, Thing

DEFAULT_SIZE = "large"
DEFAULT_POSITION = "center"
"""What a caption means that leaves size or position out."""

_PREPOSITIONS = {"top": "at the", "bottom": "at the", "left": "on the", "right": "on the"}


def full_caption(scene: Scene) -> str:
    """Name everything: the form that trains and tests the most."""
    if scene.thing is None:
        return f"an empty {scene.background} background"
    thing = scene.thing
    return (
        f"a {thing.size} {thing.colour} {thing.shape} {place(thing.position)} "
        f"on {with_article(scene.background)} background"
    )


def place(position: str) -> str:
    """Put the preposition before a position."""
    return f"{_PREPOSITIONS.get(position, 'in the')} {position}"


def with_article(words: str) -> str:
    """Put `a` or `an` before the words."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def default_background(thing: Thing) -> str:
    """Background that a caption means that names none."""
    return "black" if thing.colour == "white" else "white"


def any_caption(scene: Scene, rng: random.Random) -> str:
    """Say the same in other words, leaving out only what the defaults restore."""
    if scene.thing is None:
        return _any_empty_caption(scene, rng)
    thing = scene.thing
    size = "" if thing.size == DEFAULT_SIZE and rng.random() < 0.5 else f"{thing.size} "
    named = f"{size}{thing.colour} {thing.shape}"
    where = "" if thing.position == DEFAULT_POSITION and rng.random() < 0.5 else place(thing.position)
    where = rng.choice((where, where, _hyphenated(where), _other_place(where)))
    background = scene.background
    article = rng.choice((with_article(named), with_article(named), named))
    forms = [
        f"{article} {where} on {with_article(background)} background",
        f"{article} on {with_article(background)} background {where}",
        f"{background} background, {article} {where}",
        f"{article} {where} on {background}",
        f"there is {with_article(named)} {where} on {with_article(background)} background",
        f"a picture of {with_article(named)} {where} on the {background} background",
        f"{article}, {where}, {background} background",
        f"{where}: {article}, background: {background}",
    ]
    if background == default_background(thing):
        forms.append(f"{article} {where}")
    return tidy(rng.choice(forms))


def _hyphenated(where: str) -> str:
    """Write `top-left`."""
    return where.replace("top ", "top-").replace("bottom ", "bottom-")


def _other_place(where: str) -> str:
    """Use another word for the middle, or drop the preposition."""
    if where.endswith("center"):
        return "in the middle"
    return where.removeprefix("in the ").removeprefix("at the ").removeprefix("on the ")


def _any_empty_caption(scene: Scene, rng: random.Random) -> str:
    """Say that there is nothing but background."""
    background = scene.background
    forms = ("an empty {}", "a plain {} background", "nothing on {}", "{} background, no object", "plain {}")
    return rng.choice((full_caption(scene), tidy(rng.choice(forms).format(background))))


def tidy(text: str) -> str:
    """Close the gaps that left-out words leave."""
    words = " ".join(text.split()).replace(" ,", ",").replace(",,", ",")
    return words.removeprefix(": ").strip(", ")

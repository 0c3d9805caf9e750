"""The words the demo family was taught, and the words of a prompt that it was not. Imports no torch."""

import re

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "orange": (245, 145, 30),
    "yellow": (250, 225, 60),
    "green": (45, 165, 70),
    "blue": (40, 85, 215),
    "purple": (140, 60, 175),
    "black": (25, 25, 25),
    "white": (245, 245, 245),
}
"""Object and background colours alike, far enough apart that a pixel names its colour."""

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "diamond")

SIZES: tuple[str, ...] = ("small", "large")

POSITIONS: dict[str, tuple[int, int]] = {
    "top left": (-1, -1),
    "top": (0, -1),
    "top right": (1, -1),
    "left": (-1, 0),
    "center": (0, 0),
    "right": (1, 0),
    "bottom left": (-1, 1),
    "bottom": (0, 1),
    "bottom right": (1, 1),
}
"""Column and row of the object, counted from the middle of the picture."""

_FUNCTION_WORDS = (
    "a an the on in at of to into with and is it its one there this that plain empty only just no nothing "
    "background object shape picture image photo drawing side corner middle centre"
)

_EDIT_WORDS = (
    "make turn change move remove delete set put paint colour color larger bigger smaller up down draw fill add"
)

VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys(
        (
            *COLOURS,
            *SHAPES,
            *SIZES,
            *" ".join(POSITIONS).split(),
            *_FUNCTION_WORDS.split(),
            *_EDIT_WORDS.split(),
        )
    )
)
"""Every word that carries meaning, once, in an order that fixes the token ids."""

_KNOWN = frozenset(VOCABULARY)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


def unknown_words(prompt: str) -> list[str]:
    """Return the words of the prompt that the vocabulary lacks, lower-cased, each once, in order."""
    words = (match.group().lower() for match in _WORD.finditer(prompt))
    return list(dict.fromkeys(word for word in words if word not in _KNOWN))

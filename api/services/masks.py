"""What a fill's mask says: white is repainted. One that says nothing is refused, one that may be meant otherwise noted.

Other programs mark the region by transparent holes (OpenAI's image API). Holes are not guessed at here: a mask that
was drawn in white on a transparent layer has them, too, and means the opposite.
"""

from __future__ import annotations

from typing import Final

from PIL import Image

from shared.domain.errors import MediaError
from shared.domain.params import MASK_THRESHOLD

_CLEARLY_BLACK: Final = 31
_CLEARLY_WHITE: Final = 224
_MUCH_GREY: Final = 0.1
"""Soft edges are grey, too; this share of a mask is more than edges."""

_HOW_TO_CONVERT: Final = "ImageMagick does it: magick mask.png -alpha extract -negate white-mask.png"


def check_mask(mask: Image.Image, alpha: Image.Image | None, field: str) -> list[str]:
    """Return what a caller should know about a mask of mode L; ``alpha`` is how opaque it was, if not everywhere.

    Raises:
      MediaError: no pixel is white, so nothing would be repainted; says what was read and what would work.
    """
    there = [value for value, count in enumerate(mask.histogram()) if count]
    darkest, brightest = there[0], there[-1]
    if brightest < MASK_THRESHOLD:
        raise MediaError(f"{field}: nothing would be repainted. {_why_nothing(brightest, alpha)}", field=field)
    notes = []
    if alpha is not None:
        notes.append(
            f"{field}: its transparent parts are kept and its white parts repainted; "
            f"if its holes were meant to be repainted, turn them white. {_HOW_TO_CONVERT}"
        )
    if darkest >= MASK_THRESHOLD:
        notes.append(f"{field}: it is white all over, so the whole picture is repainted and nothing of it is kept")
    if (share := _grey_share(mask)) > _MUCH_GREY:
        notes.append(
            f"{field}: {share:.0%} of it is grey; values of {MASK_THRESHOLD} to 255 are repainted, darker ones kept"
        )
    return notes


def find_holes(rgba: Image.Image) -> Image.Image | None:
    """Return the alpha channel of a picture of mode RGBA, ``None`` when it hides nothing."""
    alpha = rgba.getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def _why_nothing(brightest: int, alpha: Image.Image | None) -> str:
    if alpha is not None:
        return (
            "The mask has transparent parts and no white ones; here white marks what is repainted, not holes. "
            f"Turn the holes white and the rest black. {_HOW_TO_CONVERT}"
        )
    if brightest == 0:
        return "The mask is black all over; paint the region to repaint white."
    return (
        f"The mask's brightest pixel is {brightest} of 255, and white begins at {MASK_THRESHOLD}; "
        "paint the region to repaint white."
    )


def _grey_share(mask: Image.Image) -> float:
    return sum(mask.histogram()[_CLEARLY_BLACK + 1 : _CLEARLY_WHITE]) / (mask.width * mask.height)

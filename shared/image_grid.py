"""Grids of pictures with captions, for before/after strips, previews and contact sheets. Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

_GAP_PIXELS: Final = 8
_CAPTION_PIXELS: Final = 22
_BACKGROUND: Final = (250, 250, 250)
_INK: Final = (30, 30, 30)


def image_grid(images: Sequence[Image.Image], rows: int, cols: int, *, captions: Sequence[str] = ()) -> Image.Image:
    """Return one RGB picture with ``images`` row by row; cells take the size of the largest.

    Raises:
      ValueError: there are no images, more than cells, or captions for another number of images.
    """
    if not images or len(images) > rows * cols:
        raise ValueError(f"{len(images)} images do not fit a grid of {rows} x {cols}")
    if captions and len(captions) != len(images):
        raise ValueError(f"{len(captions)} captions for {len(images)} images")
    width = max(image.width for image in images)
    height = max(image.height for image in images)
    cell_height = height + (_CAPTION_PIXELS if captions else 0)
    size = (cols * (width + _GAP_PIXELS) + _GAP_PIXELS, rows * (cell_height + _GAP_PIXELS) + _GAP_PIXELS)
    grid = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(grid)
    font = ImageFont.load_default(14)
    for position, image in enumerate(images):
        left = _GAP_PIXELS + position % cols * (width + _GAP_PIXELS)
        top = _GAP_PIXELS + position // cols * (cell_height + _GAP_PIXELS)
        grid.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
        if captions:
            text = _shortened(captions[position], font, width)
            draw.text((left + width / 2, top + height + _CAPTION_PIXELS / 2), text, _INK, font, anchor="mm")
    return grid


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"

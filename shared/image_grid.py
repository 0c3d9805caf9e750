"""Grids of pictures with captions, for before/after strips, merged results and contact sheets. Pillow only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

_GAP_PIXELS: Final = 8
_CAPTION_PIXELS: Final = 22
_FONT_PIXELS: Final = 14
_BACKGROUND: Final = (250, 250, 250)
_INK: Final = (30, 30, 30)
_MAX_PIXELS: Final = 400_000_000
"""More would take over a gigabyte of memory."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def image_grid(
    images: Sequence[Image.Image],
    rows: int,
    cols: int,
    *,
    captions: Sequence[str] = (),
    cell: tuple[int, int] | None = None,
) -> Image.Image:
    """Return one RGB picture with ``images`` row by row, each in the middle of its cell.

    Cells are as large as the largest picture. With ``cell``, they have that (width, height) in pixels, and larger
    pictures are scaled down to it. Transparent parts show the background. A caption stands in one line under its
    picture, shortened to the cell's width.

    Raises:
      ValueError: there are no images, more than cells, captions for another number of images, or too many pixels.
    """
    if rows < 1 or cols < 1:
        raise ValueError(f"a grid of {rows} x {cols} has no cells")
    if not images or len(images) > rows * cols:
        raise ValueError(f"{len(images)} images do not fit a grid of {rows} x {cols}")
    if captions and len(captions) != len(images):
        raise ValueError(f"{len(captions)} captions for {len(images)} images")
    shown = [_shown(image, cell) for image in images]
    width, height = cell or (max(image.width for image in shown), max(image.height for image in shown))
    cell_height = height + (_CAPTION_PIXELS if captions else 0)
    size = (cols * (width + _GAP_PIXELS) + _GAP_PIXELS, rows * (cell_height + _GAP_PIXELS) + _GAP_PIXELS)
    if size[0] * size[1] > _MAX_PIXELS:
        raise ValueError(f"a grid of {size[0]} x {size[1]} pixels is too large for these images; give a smaller cell")
    grid = Image.new("RGB", size, _BACKGROUND)
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(_FONT_PIXELS)
    for position, image in enumerate(shown):
        left = _GAP_PIXELS + position % cols * (width + _GAP_PIXELS)
        top = _GAP_PIXELS + position // cols * (cell_height + _GAP_PIXELS)
        corner = (left + (width - image.width) // 2, top + (height - image.height) // 2)
        grid.paste(image, corner, mask=image if image.mode == "RGBA" else None)
        if captions:
            text = _shortened(captions[position], font, width)
            draw.text((left + width / 2, top + height + _CAPTION_PIXELS / 2), text, _INK, font, anchor="mm")
    return grid


def grid_shape(count: int) -> tuple[int, int]:
    """Return (rows, cols) of the grid nearest to a square that holds ``count`` pictures: 1 to 3 in one row.

    Raises:
      ValueError: ``count`` is less than one.
    """
    if count < 1:
        raise ValueError(f"a grid for {count} images has no shape")
    cols = count if count <= 3 else math.ceil(math.sqrt(count))
    return math.ceil(count / cols), cols


def _shown(image: Image.Image, cell: tuple[int, int] | None) -> Image.Image:
    clean = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if cell is not None:
        clean.thumbnail(cell, Image.Resampling.LANCZOS)
    return clean


def _shortened(text: str, font: Font, width: int) -> str:
    """Return the text in one line that is at most ``width`` pixels long."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    kept = 0
    while kept < len(text) and font.getlength(text[: kept + 1] + "…") <= width:
        kept += 1
    return text[:kept].rstrip() + "…"

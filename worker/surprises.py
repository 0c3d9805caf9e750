"""What the owner of a job should know about a finished picture: that it holds nothing, or nothing new."""

from __future__ import annotations

from PIL import Image, ImageChops


def find_surprise(image: Image.Image, source: Image.Image | None, number: int) -> str | None:
    """Return what is odd about a job's picture ``number`` (from 0), RGB, made of ``source`` if there was one."""
    if all(low == high for low, high in _extrema(image)):
        return f"picture {number} is of one colour all over; another seed or more steps may help"
    if source is not None and source.size == image.size and ImageChops.difference(image, source).getbbox() is None:
        return f"picture {number} equals the one that was sent: nothing was changed"
    return None


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    return [band.getextrema() for band in image.split()]  # type: ignore[misc]  # one band: one pair

"""A fill of any size: padded to the model's grid on its way in, cropped and laid over the picture on its way out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
from PIL import Image

from shared.domain.params import MASK_THRESHOLD, BaseParams, FillParams

Params = TypeVar("Params", bound=BaseParams)


@dataclass(frozen=True, slots=True)
class FillCanvas:
    """What a fill works on.

    ``picture`` (RGB) and ``mask`` (L, 0 or 255) have the result's size, ``grid_size`` is (width, height) in pixels as
    the model gets them. The padding repeats the picture's edge and is kept by the mask, so that nothing is painted
    there that the rest would have to go with.
    """

    picture: Image.Image
    mask: Image.Image
    grid_size: tuple[int, int]

    @classmethod
    def of(cls, picture: Image.Image, mask: Image.Image, params: FillParams) -> Self:
        """Return the canvas of a job; picture and mask are scaled where the job asks for another size."""
        size = (params.width, params.height)
        binary = scaled(mask.convert("L"), size).point(lambda value: 255 if value >= MASK_THRESHOLD else 0)
        return cls(scaled(picture, size), binary, params.grid_size)

    def padded(self) -> tuple[Image.Image, Image.Image]:
        """Return picture and mask as the model gets them."""
        return _pad(self.picture, self.grid_size, "edge"), _pad(self.mask, self.grid_size, "constant")

    def finish(self, painted: Image.Image) -> Image.Image:
        """Return the result: ``painted`` (of ``grid_size``) where the mask is white, the picture's bytes elsewhere."""
        return Image.composite(painted.crop((0, 0, *self.picture.size)), self.picture, self.mask)


def at_grid(params: Params) -> Params:
    """Return the same job at the size that the model works at."""
    width, height = params.grid_size
    return params.model_copy(update={"width": width, "height": height})


def scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the picture at a (width, height) in pixels."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _pad(image: Image.Image, size: tuple[int, int], mode: str) -> Image.Image:
    """Return the picture with more columns on the right and more rows below: its edge again, or black."""
    right, below = size[0] - image.width, size[1] - image.height
    if right == below == 0:
        return image
    pixels = np.asarray(image)
    channels = [(0, 0)] * (pixels.ndim - 2)
    return Image.fromarray(np.pad(pixels, [(0, below), (0, right), *channels], mode=mode))  # type: ignore[call-overload]

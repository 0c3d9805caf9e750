"""Uploads are hostile until proven pictures: checked before they are decoded, and stored only re-encoded."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Final

from anyio import CapacityLimiter, to_thread
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from api.own_trouble import own_trouble
from shared.domain.errors import MediaError
from shared.domain.params import InputRole

ACCEPTED_FORMATS: Final = ("PNG", "JPEG", "WEBP")
MIN_SIDE_PIXELS: Final = 16
MAX_SIDE_PIXELS: Final = 8192
MAX_DECODERS: Final = 4
"""A picture of 40 megapixels takes up to 460 MB while it is read."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A normalised upload: 8-bit RGB (or L for a mask), upright, sRGB, without metadata."""

    role: InputRole
    width: int
    height: int
    png: bytes
    warnings: tuple[str, ...]


class UploadReader:
    """Reads a few uploads at a time, so that many large ones need neither all memory nor all threads."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self.turns = CapacityLimiter(MAX_DECODERS)

    async def read(self, file: BinaryIO, role: InputRole, field: str) -> Picture:
        """Check and normalise one upload when its turn comes; see ``read_picture``."""
        return await to_thread.run_sync(
            lambda: read_picture(file.read(), role, field, self._max_pixels), limiter=self.turns
        )


def read_picture(data: bytes, role: InputRole, field: str, max_pixels: int) -> Picture:
    """Check and normalise one upload.

    Raises:
      MediaError: it is empty, truncated, animated, of another format, or too small or large; names ``field``.
    """
    if not data:
        raise MediaError(f"{field}: the file is empty.", field=field)
    image = _open(data, field, max_pixels)
    _check_size(image, field, max_pixels)
    notes: list[str] = []
    with _hostile(field, "the picture is damaged or cut off"):
        image.load()
        with suppress(Exception):  # EXIF that cannot be read says nothing about the pixels
            ImageOps.exif_transpose(image, in_place=True)
        clean = _to_mask(image) if role is InputRole.MASK else _to_rgb(image, field, notes)
    buffer = io.BytesIO()
    clean.save(buffer, "PNG", compress_level=1)
    return Picture(role, clean.width, clean.height, buffer.getvalue(), tuple(notes))


@contextmanager
def _hostile(field: str, problem: str) -> Iterator[None]:
    """Turn whatever Pillow stumbles over into a ``MediaError``: its parsers raise nearly anything on bad bytes."""
    try:
        yield
    except (MediaError, MemoryError):
        raise
    except Exception as error:
        if own_trouble(error) is not None:
            raise
        raise MediaError(f"{field}: {problem} ({error or type(error).__name__}).", field=field) from error


def _open(data: bytes, field: str, max_pixels: int) -> Image.Image:
    with _hostile(field, "the file cannot be read as a picture"):
        try:
            return Image.open(io.BytesIO(data), formats=ACCEPTED_FORMATS)
        except UnidentifiedImageError:
            accepted = ", ".join(ACCEPTED_FORMATS)
            raise MediaError(
                f"{field}: this is no picture in an accepted format ({accepted}).",
                field=field,
                accepted=ACCEPTED_FORMATS,
            ) from None
        except Image.DecompressionBombError:
            raise MediaError(
                f"{field}: the picture has far more than {max_pixels} pixels, the limit.",
                field=field,
                limit=max_pixels,
            ) from None


def _check_size(image: Image.Image, field: str, max_pixels: int) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE_PIXELS or max(width, height) > MAX_SIDE_PIXELS:
        raise MediaError(
            f"{field}: the picture is {width}x{height}; each side must be {MIN_SIDE_PIXELS} to {MAX_SIDE_PIXELS}.",
            field=field,
            limit=[MIN_SIDE_PIXELS, MAX_SIDE_PIXELS],
        )
    if width * height > max_pixels:
        raise MediaError(
            f"{field}: the picture has {width * height} pixels; at most {max_pixels} are accepted.",
            field=field,
            limit=max_pixels,
        )
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: a phone's JPEG, with a second view behind it
        raise MediaError(f"{field}: animated pictures are not accepted; send one frame.", field=field)


def _to_rgb(image: Image.Image, field: str, notes: list[str]) -> Image.Image:
    profile = image.info.get("icc_profile")
    image = _to_8_bit(image)
    if image.has_transparency_data:
        rgba = _in_mode("RGBA", image)
        if rgba.getchannel("A").getextrema() != (255, 255):
            notes.append(f"{field}: transparent parts were laid on white")
        image = _laid_on("white", rgba)
    elif image.mode not in ("L", "CMYK"):
        image = _in_mode("RGB", image)
    return _without_metadata(_in_mode("RGB", _to_srgb(image, profile)))


def _to_mask(image: Image.Image) -> Image.Image:
    """Return the mask as grey values; white is repainted."""
    image = _to_8_bit(image)
    if image.has_transparency_data:  # what cannot be seen is not white
        image = _laid_on("black", _in_mode("RGBA", image))
    return _without_metadata(_in_mode("L", image))


def _laid_on(colour: str, rgba: Image.Image) -> Image.Image:
    background = Image.new("RGB", rgba.size, colour)
    background.paste(rgba, mask=rgba)
    return background


def _in_mode(mode: str, image: Image.Image) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # convert() copies even when there is nothing to do


def _to_8_bit(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        return image
    return image.convert("I").point(lambda value: value / 256).convert("L")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB", inPlace=image.mode == "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a broken profile says nothing about the pixels
    return converted or image


def _without_metadata(image: Image.Image) -> Image.Image:
    clean = Image.new(image.mode, image.size)
    clean.paste(image)
    return clean

"""Whatever a Space returns for a picture, as a picture: files, galleries, comparison sliders, data URLs, base64."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image, ImageOps

from shared.domain.errors import RemoteFailed

_FORMATS: Final = ("PNG", "JPEG", "WEBP")
_MAX_PIXELS: Final = 8192 * 8192
_PICTURE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")
_BASE64_BEGINNINGS: Final = ("iVBORw0KGgo", "/9j/", "UklGR")
"""How PNG, JPEG and WebP begin in base64."""

Download = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class SpaceResult:
    """What one call returned: the first picture, how many there were, and the seed the Space says it used."""

    image: Image.Image
    count: int
    seed: int | None


def read_result(value: Any, outputs: Sequence[tuple[str, str]], download: Download) -> SpaceResult:
    """Return the picture in a call's result.

    ``outputs`` are the (component, label) of its parts; ``download`` turns a path on the Space into bytes.

    Raises:
      RemoteFailed: there is no picture, it cannot be read, or the Space marked it as filtered.
    """
    parts = list(value) if len(outputs) > 1 and isinstance(value, list | tuple) else [value]
    components = [component.lower() for component, _ in outputs] + [""] * len(parts)
    labels = [label.lower() for _, label in outputs] + [""] * len(parts)
    if any(
        "nsfw" in label and part and part not in ("False", [False]) for part, label in zip(parts, labels, strict=False)
    ):
        raise RemoteFailed("The Space marked the picture as not safe for work and withheld it. Change the prompt.")
    found: list[Any] = []
    for part, component in zip(parts, components, strict=False):
        pictures = list(_pictures(part))
        # The slider compares before and after.
        found += pictures[-1:] if component == "imageslider" else pictures
    if not found:
        raise RemoteFailed(f"The Space's answer holds no picture; its parts are: {', '.join(map(_shape, parts))}.")
    seeds = [part for part, label in zip(parts, labels, strict=False) if "seed" in label and type(part) in (int, float)]
    return SpaceResult(_decode(found[0], download), len(found), int(seeds[0]) if seeds else None)


def _pictures(part: Any) -> Iterator[str]:
    """Yield every reference to a picture: a path, a URL, a data URL or base64."""
    match part:
        case str():
            if part.startswith(("data:image/", *_BASE64_BEGINNINGS)) or part.lower().endswith(_PICTURE_SUFFIXES):
                yield part
        case {"path": str(path)}:
            yield path
        case {"url": str(url)}:
            yield url
        case {"__type__": "update", **fields}:
            yield from _pictures(fields.get("value"))
        case {"image": item} | {"value": item} | {"data": item} | {"b64_json": item} | {"base64": item}:
            yield from _pictures(item)
        case list() | tuple():
            for item in part:
                yield from _pictures(item)


def _decode(reference: str, download: Download) -> Image.Image:
    inline = reference.partition(",")[2] if reference.startswith("data:") else reference
    try:
        if inline is not reference or reference.startswith(_BASE64_BEGINNINGS):
            return _read_rgb(base64.b64decode(inline, validate=True))
    except binascii.Error as error:
        raise RemoteFailed(f"The Space's picture is no base64: {error}.") from error
    return _read_rgb(download(reference))


def _read_rgb(data: bytes) -> Image.Image:
    try:
        return _open_rgb(data)
    except Exception as error:  # Pillow's parsers raise nearly anything on bad bytes
        raise RemoteFailed(f"The Space's picture cannot be read: {error or type(error).__name__}.") from error


def _open_rgb(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    if image.width * image.height > _MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} is larger than {_MAX_PIXELS} pixels")
    upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.info.clear()  # what the Space wrote into the file is not ours to publish
    return upright


def _shape(part: Any) -> str:
    return f"dict with {', '.join(sorted(map(str, part)))}" if isinstance(part, dict) else type(part).__name__

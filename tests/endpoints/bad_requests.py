"""Requests that must be refused: how they are made, and what the refusal must hold."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.schemas.server import ErrorBody
from tests.factories import encoded, noise_bytes, picture, png_bytes

PROMPT = "a red circle"
JSON = "application/json"
BOUNDARY = "frontier"
FORM = "multipart/form-data"
JSON_OR_FORM = f"{JSON} or {FORM}"
MULTIPART = f"{FORM}; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Bad:
    """One request that must be refused, and how. ``says`` is text that the message must hold."""

    path: str
    send: Mapping[str, Any]
    field: str
    limit: Any = None
    status: int = 422
    code: str = "invalid_request"
    says: str = ""


def json_body(limit: Any = None, says: str = "", *, names: str | None = None, code: str = "invalid_request", **fields):
    """A generate request with these fields beside a good prompt; the last one is at fault."""
    return Bad(
        "/api/generate", {"json": {"prompt": PROMPT, **fields}}, names or list(fields)[-1], limit, 422, code, says
    )


def raw_json(text: str | bytes, names: str = "body", says: str = "", status: int = 422, code: str = "invalid_request"):
    headers = {"Content-Type": JSON}
    return Bad("/api/generate", {"content": text, "headers": headers}, names, None, status, code, says)


def wrong_type(path: str, wanted: str, **send: Any):
    return Bad(path, send, "Content-Type", wanted, 415, "unsupported_media_type", wanted)


def form(limit: Any = None, says: str = "", *, names: str | None = None, code: str = "invalid_request", **fields):
    """An edit request with these fields beside a good prompt and a good picture; the last one is at fault."""
    send = {"data": {"prompt": PROMPT, **fields}, "files": {"file": ("photo.png", png_bytes())}}
    return Bad("/api/edit", send, names or list(fields)[-1], limit, 422, code, says)


def edit(file: Any, names: str = "file", limit: Any = None, says: str = "", code: str = "invalid_image"):
    """An edit request with this upload."""
    return Bad("/api/edit", {"data": {"prompt": PROMPT}, "files": {"file": file}}, names, limit, 422, code, says)


def painting(code: str, names: str, limit: Any = None, **given: bytes | str):
    """A generate request as a form; bytes are pictures."""
    files = {name: (f"{name}.png", value) for name, value in given.items() if isinstance(value, bytes)}
    fields = {name: value for name, value in given.items() if isinstance(value, str)}
    return Bad("/api/generate", {"data": {"prompt": PROMPT, **fields}, "files": files}, names, limit, 422, code, "")


def fill(image: bytes | None, mask: bytes | None, names: str, code: str = "invalid_image", **more: Any):
    given = {"image": image, "mask": mask}
    files = {name: (f"{name}.png", data) for name, data in given.items() if data is not None}
    send = {"data": {"prompt": PROMPT}, "files": files}
    return Bad("/api/fill", send, names, more.get("limit"), 422, code, more.get("says", ""))


def multipart(
    *parts: tuple[str, bytes], path: str = "/api/edit", names: str, content_type: str = MULTIPART, **more: Any
):
    """A hand-written form: each part is its Content-Disposition parameters and its bytes."""
    body = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    body += f"--{BOUNDARY}--\r\n".encode()
    send = {"content": body, "headers": {"Content-Type": content_type}}
    return Bad(
        path,
        send,
        names,
        more.get("limit"),
        more.get("status", 422),
        more.get("code", "invalid_request"),
        more.get("says", ""),
    )


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with_header(width: int, height: int, *extra: bytes) -> bytes:
    """A tiny file whose header claims a size that its pixels do not have."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 64))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + chunk(b"IEND", b"")


def webp_with_canvas(width: int, height: int) -> bytes:
    """An extended WebP whose canvas is larger than anything in it."""
    body = b"WEBP" + b"VP8X" + struct.pack("<IB3x", 10, 0)
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body += noise_bytes(16, 16, "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def animated(file_format: str) -> bytes:
    frames = [picture(), picture().rotate(180)]
    return encoded(frames[0], file_format, save_all=True, append_images=frames[1:], duration=100)


TEXT_BOMB = chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"\0" * 200_000_000, 9))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect width="64" height="64"/></svg>'


def refused(response: Any) -> Any:
    """Return the error of a 4xx answer, after a check of its shape."""
    assert response.headers["Content-Type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    return ErrorBody.model_validate(body).error

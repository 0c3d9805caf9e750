"""Bad input is a clear 4xx that names field and limit; nothing of it is kept."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from shared.domain.params import MAX_PROMPT_CHARACTERS, MAX_SEED
from shared.domain.samplers import SAMPLERS
from shared.schemas.server import ErrorBody
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server
from tests.factories import encoded, mask_bytes, noise_bytes, picture, png_bytes

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
    return Bad(path, send, names, more.get("limit"), more.get("status", 422), more.get("code", "invalid_request"))


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

PARAMETERS = {
    # prompt
    "prompt missing": Bad("/api/generate", {"json": {}}, "prompt"),
    "prompt empty": json_body(1, prompt=""),
    "prompt of spaces": json_body(says="empty", prompt=" \n\t "),
    "prompt too long": json_body(MAX_PROMPT_CHARACTERS, prompt="x" * (MAX_PROMPT_CHARACTERS + 1)),
    "prompt far too long": json_body(MAX_PROMPT_CHARACTERS, prompt="x" * 1_000_000),
    "prompt null": json_body(prompt=None),
    "prompt a number": json_body(prompt=7),
    "prompt a list": json_body(prompt=["a", "b"]),
    "prompt with NUL": json_body(says="NUL", prompt="a\0b"),
    "prompt with a lone surrogate": raw_json(r'{"prompt": "a \ud800 b"}', "prompt"),
    # steps
    "steps 0": json_body(1, num_inference_steps=0),
    "steps negative": json_body(1, num_inference_steps=-4),
    "steps above the model's limit": json_body(50, code="capability", says="demo", num_inference_steps=51),
    "steps huge": json_body(50, code="capability", num_inference_steps=10**400),
    "steps a boolean": json_body(num_inference_steps=True),
    "steps a string": json_body(num_inference_steps="4"),
    "steps a fraction": json_body(num_inference_steps=4.5),
    "steps null": json_body(num_inference_steps=None),
    # size
    "width off the grid": json_body(16, width=250),
    "height off the grid": json_body(16, height=257),
    "width 0": json_body(0, width=0),
    "height negative": json_body(0, height=-256),
    "width too small": json_body(64, code="capability", width=48),
    "height too large": json_body(1024, code="capability", height=1040),
    "too large in sum": json_body(768 * 768, code="capability", names="width", width=1024, height=1024),
    "width huge": json_body(1024, code="capability", width=16 * 10**400),
    "width a boolean": json_body(width=True),
    "height a string": json_body(height="256"),
    # guidance
    "guidance negative": json_body(0, guidance_scale=-0.5),
    "guidance above the model's limit": json_body(30, code="capability", guidance_scale=30.5),
    "guidance a string": json_body(guidance_scale="3.5"),
    "guidance a boolean": json_body(guidance_scale=True),
    "guidance NaN": raw_json('{"prompt": "x", "guidance_scale": NaN}', "guidance_scale", "finite"),
    "guidance Infinity": raw_json('{"prompt": "x", "guidance_scale": Infinity}', "guidance_scale", "finite"),
    "guidance -Infinity": raw_json('{"prompt": "x", "guidance_scale": -Infinity}', "guidance_scale"),
    "guidance past a double": raw_json('{"prompt": "x", "guidance_scale": 1e999}', "guidance_scale", "finite"),
    "guidance a huge integer": json_body(guidance_scale=10**400),
    # seed
    "seed negative": json_body(0, seed=-1),
    "seed above what JavaScript keeps": json_body(MAX_SEED, seed=MAX_SEED + 1),
    "seed huge": json_body(MAX_SEED, seed=10**400),
    "seed a fraction": json_body(seed=1.5),
    "seed a string": json_body(seed="7"),
    # count
    "no image": json_body(1, num_images=0),
    "nine images": json_body(8, num_images=9),
    # model
    "model unknown": json_body(code="unknown_model", says="schnell", model="nosuchmodel"),
    "model unknown and long": json_body(128, model="m" * 129),
    "model empty": json_body(1, model=""),
    "model a path": json_body(code="unknown_model", model="../../etc/passwd"),
    "model of another kind": json_body(code="capability", says="edit", model="kontext"),
    # what only some models can do
    "negative prompt on a model without": json_body(code="capability", says="demo", negative_prompt="blurry"),
    "negative prompt on schnell": json_body(
        code="capability", says="schnell", model="schnell", names="negative_prompt", negative_prompt="blurry"
    ),
    "negative prompt with NUL": json_body(says="NUL", negative_prompt="a\0b"),
    "negative prompt too long": json_body(MAX_PROMPT_CHARACTERS, negative_prompt="x" * (MAX_PROMPT_CHARACTERS + 1)),
    "sampler on a model without": json_body(code="capability", says="its own sampler", sampler="Euler a"),
    "sampler unknown": json_body(
        list(SAMPLERS), code="capability", says="Euler a", model="sd15", names="sampler", sampler="euler"
    ),
    "sampler unknown and long": json_body(64, sampler="x" * 65),
    "strength without a picture": json_body(says="send a picture", strength=0.5),
    "strength 0": json_body(0, strength=0),
    "strength above 1": json_body(1, strength=1.01),
    "strength NaN": raw_json('{"prompt": "x", "strength": NaN}', "strength", "finite"),
    "scale without a reference": json_body(says="send one as `reference`", ip_adapter_scale=0.5),
    "scale above 1": json_body(1, ip_adapter_scale=1.5),
    "scale negative": json_body(0, ip_adapter_scale=-0.1),
    # step cache
    "step cache on a model of few steps": json_body(
        ["off"], code="capability", says="takes no step cache", step_cache="first_block"
    ),
    "step cache on schnell": json_body(
        ["off"], code="capability", says="schnell", model="schnell", names="step_cache", step_cache="first_block"
    ),
    "step cache unknown": json_body(says="first_block", step_cache="teacache"),
    "step cache a boolean": json_body(step_cache=True),
    "threshold without a cache": json_body(says="step_cache: first_block", step_cache_threshold=0.1),
    "threshold of a cache that is off": json_body(
        names="step_cache_threshold", says="first_block", step_cache_threshold=0.1, step_cache="off"
    ),
    "threshold 0": json_body(0, step_cache_threshold=0),
    "threshold above 1": json_body(1, step_cache_threshold=1.01),
    "threshold NaN": raw_json('{"prompt": "x", "step_cache_threshold": NaN}', "step_cache_threshold", "finite"),
    # schedule
    "priority above the limit": json_body(100, priority=101),
    "priority below the limit": json_body(-100, priority=-101),
    "priority a string": json_body(priority="5"),
    "class unknown": json_body(job_class="urgent"),
    "class null": json_body(job_class=None),
    "a time without a zone": json_body(not_before="2030-01-01T10:00:00"),
    "a time that is a word": json_body(deadline="tomorrow"),
    "a time that no clock shows": json_body(deadline="2030-02-30T10:00:00Z"),
    "a time after the last year": json_body(says="9999", deadline="9999-12-31T23:59:59-12:00"),
    "a time before the first year": json_body(says="9999", not_before="0001-01-01T00:00:00+12:00"),
    "a time that is a huge number": json_body(not_before=10**30),
    "a time that is NaN": raw_json('{"prompt": "x", "deadline": NaN}', "deadline"),
    "an idempotency key that is too long": Bad(
        "/api/generate", {"json": {"prompt": "x"}, "headers": {"Idempotency-Key": "k" * 256}}, "Idempotency-Key", 255
    ),
    "an idempotency key that is empty": Bad(
        "/api/generate", {"json": {"prompt": "x"}, "headers": {"Idempotency-Key": ""}}, "Idempotency-Key", 1
    ),
    # shape of the body
    "unknown field": json_body(eta=0.5),
    "field of a later version": json_body(owner="me"),
    "unknown field with a lone surrogate": raw_json(r'{"prompt": "x", "\udc00": 1}', "body", "unicode"),
    "two unknown fields": json_body(names="eta", eta=1, hue="x"),
    "an unknown field with a long name": json_body(names="x" * 64, **{"x" * 100_000: 1}),
    "ten thousand unknown fields": json_body(names="f0", **{f"f{index}": 1 for index in range(10_000)}),
    "no body": Bad("/api/generate", {"headers": {"Content-Type": JSON}}, "body"),
    "an array": raw_json('["x"]'),
    "a string": raw_json('"x"'),
    "a number": raw_json("7"),
    "null": raw_json("null"),
    "no JSON": raw_json("{prompt: x}", says="JSON"),
    "cut off JSON": raw_json('{"prompt": "x"', says="JSON"),
    "bytes that are no UTF-8": raw_json(b'{"prompt": "\xff"}'),
    "deep JSON": raw_json('{"prompt": ' + "[" * 200_000),
    "deep JSON that ends": raw_json('{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "an integer of 5000 digits": raw_json('{"prompt": "x", "seed": ' + "9" * 5000 + "}"),
    # content type
    "generate as text": wrong_type("/api/generate", JSON_OR_FORM, content="{}", headers={"Content-Type": "text/plain"}),
    "generate without a type": wrong_type("/api/generate", JSON_OR_FORM, content='{"prompt": "x"}'),
    "generate as a plain form": wrong_type("/api/generate", JSON_OR_FORM, data={"prompt": "x"}),
    "edit as JSON": wrong_type("/api/edit", FORM, json={"prompt": "x"}),
    "edit as a picture": wrong_type("/api/edit", FORM, content=png_bytes(), headers={"Content-Type": "image/png"}),
    "fill as a plain form": wrong_type("/api/fill", FORM, data={"prompt": "x"}),
    "form without a boundary": Bad(
        "/api/edit", {"content": b"--x--", "headers": {"Content-Type": FORM}}, "body", says="boundary"
    ),
    "form that is cut off": Bad(
        "/api/edit", {"content": b"--frontier\r\nContent-Disp", "headers": {"Content-Type": MULTIPART}}, "prompt"
    ),
    "form that is noise": Bad(
        "/api/edit", {"content": noise_bytes(), "headers": {"Content-Type": MULTIPART}}, "body"
    ),
    # query
    "wait above the limit": Bad("/api/generate?wait=601", {"json": {"prompt": "x"}}, "wait", 600),
    "wait negative": Bad("/api/generate?wait=-1", {"json": {"prompt": "x"}}, "wait", 0),
    "wait infinite": Bad("/api/generate?wait=inf", {"json": {"prompt": "x"}}, "wait"),
    "wait a word": Bad("/api/generate?wait=long", {"json": {"prompt": "x"}}, "wait"),
    "preferred wait above the limit": Bad(
        "/api/generate", {"json": {"prompt": "x"}, "headers": {"Prefer": "wait=601"}}, "wait", 600
    ),
    "preferred wait far above the limit": Bad(
        "/api/generate", {"json": {"prompt": "x"}, "headers": {"Prefer": "return=minimal, wait=9999999"}}, "wait", 600
    ),
    "response format unknown": Bad("/api/generate?response_format=png", {"json": {"prompt": "x"}}, "response_format"),
}  # fmt: skip

FORMS = {
    "prompt missing": Bad("/api/edit", {"files": {"file": ("a.png", png_bytes())}}, "prompt"),
    "prompt empty": form(names="prompt", prompt=""),
    "prompt of spaces": form(says="empty", prompt="   "),
    "prompt too long": form(MAX_PROMPT_CHARACTERS, prompt="x" * (MAX_PROMPT_CHARACTERS + 1)),
    "prompt longer than a part may be": form(names="body", says="64KB", prompt="x" * 70_000),
    "prompt with NUL": form(says="NUL", prompt="a\0b"),
    "steps 0": form(1, num_inference_steps="0"),
    "steps above the model's limit": form(50, code="capability", num_inference_steps="51"),
    "steps huge": form(50, code="capability", num_inference_steps="9" * 400),
    "steps of 5000 digits": form(num_inference_steps="9" * 5000),
    "steps a word": form(num_inference_steps="many"),
    "guidance NaN": form(says="finite", guidance_scale="nan"),
    "guidance infinite": form(says="finite", guidance_scale="1e999"),
    "seed above what JavaScript keeps": form(MAX_SEED, seed=str(MAX_SEED + 1)),
    "width alone": form(names="height", width="128"),
    "width off the grid": form(16, width="100", height="100", names="width"),
    "too large in sum": form(768 * 768, code="capability", names="width", width="1024", height="1024"),
    "model of another kind": form(code="capability", model="demo"),
    "reference on a model without": painting("capability", "reference", reference=png_bytes()),
    "reference that is no picture": painting("invalid_image", "reference", reference=b"GIF89a", model="sd15"),
    "picture to start from that is none": painting("invalid_image", "image", image=b"\0" * 99),
    "strength of less than a step": painting("invalid_request", "strength", 0.25, image=png_bytes(), strength="0.2"),
    "strength of huge steps": painting(
        "capability", "num_inference_steps", 50, image=png_bytes(), strength="0.9", num_inference_steps="9" * 400
    ),
    "scale beside a picture to start from": painting(
        "invalid_request", "ip_adapter_scale", image=png_bytes(), ip_adapter_scale="0.5"
    ),
    "mask on generate": painting("invalid_request", "mask", mask=png_bytes()),
    "half a size beside a picture": painting("invalid_request", "height", image=png_bytes(), width="256"),
    "model unknown": form(code="unknown_model", model="nosuchmodel"),
    "unknown field": form(eta="0.5"),
    "a field of another kind": form(strength="0.5"),
    "file missing": Bad("/api/edit", {"data": {"prompt": PROMPT}, "files": {"picture": b""}}, "file"),
    "file without a name and empty": multipart(
        ('name="prompt"', b"x"), ('name="file"; filename=""', b""), names="file"
    ),
    "file sent as text": multipart(('name="prompt"', b"x"), ('name="file"', png_bytes()), names="file"),
    "prompt sent as a file": multipart(
        ('name="prompt"; filename="p"', b"x"), ('name="file"; filename="a.png"', png_bytes()), names="prompt"
    ),
    "file twice": multipart(
        ('name="prompt"', b"x"),
        ('name="file"; filename="a.png"', png_bytes()),
        ('name="file"; filename="b.png"', png_bytes()),
        names="file",
        limit=1,
    ),
    "prompt twice": multipart(
        ('name="prompt"', b"x"),
        ('name="prompt"', b"y"),
        ('name="file"; filename="a.png"', png_bytes()),
        names="prompt",
        limit=1,
    ),
    "three files": multipart(
        *((f'name="file"; filename="{name}.png"', png_bytes()) for name in "abc"), names="body", limit=None
    ),
    "too many fields": multipart(*((f'name="f{index}"', b"x") for index in range(33)), names="body"),
    "part without a name": multipart(("x=y", b"x"), names="body"),
    "unknown field with a lone surrogate": multipart(
        ('name="prompt"', b"x"),
        ('name="file"; filename="a.png"', png_bytes()),
        ('name="+2AA-"', b"x"),
        names="body",
        content_type=f"{MULTIPART}; charset=utf-7",
    ),
    "a lone surrogate twice": multipart(
        ('name="+2AA-"', b"x"), ('name="+2AA-"', b"x"), names="?", limit=1, content_type=f"{MULTIPART}; charset=utf-7"
    ),
    "mask missing": fill(png_bytes(), None, "mask", "invalid_request"),
    "image missing": fill(None, mask_bytes(), "image", "invalid_request"),
    "edit with a mask": Bad(
        "/api/edit",
        {"data": {"prompt": PROMPT}, "files": {"file": ("a.png", png_bytes()), "mask": ("m.png", mask_bytes())}},
        "mask",
    ),
}

UPLOADS = {
    "empty": edit(("photo.png", b""), says="empty"),
    "one byte": edit(("photo.png", b"\x89")),
    "text named .png": edit(("photo.png", b"hello, I am a picture\n" * 100, "image/png"), says="PNG, JPEG, WEBP"),
    "SVG": edit(("photo.svg", SVG, "image/svg+xml")),
    "SVG named .png": edit(("photo.png", SVG, "image/png")),
    "EPS": edit(("photo.eps", encoded(picture(), "EPS"))),
    "GIF": edit(("photo.gif", encoded(picture(), "GIF"))),
    "BMP": edit(("photo.bmp", encoded(picture(), "BMP"))),
    "TIFF": edit(("photo.tiff", encoded(picture(), "TIFF"))),
    "PDF": edit(("photo.pdf", b"%PDF-1.7\n1 0 obj\n")),
    "animated PNG": edit(("photo.png", animated("PNG")), says="animated"),
    "animated WebP": edit(("photo.webp", animated("WEBP")), says="animated"),
    "cut off PNG": edit(("photo.png", noise_bytes()[:5000]), says="cut off"),
    "cut off JPEG": edit(("photo.jpg", noise_bytes(file_format="JPEG")[:2000]), says="cut off"),
    "cut off WebP": edit(("photo.webp", noise_bytes(file_format="WEBP", lossless=True)[:2000])),
    "PNG of 1 x 20000": edit(("photo.png", encoded(Image.new("RGB", (1, 20_000)))), limit=[16, 8192]),
    "PNG of 20000 x 1": edit(("photo.png", encoded(Image.new("RGB", (20_000, 1)))), limit=[16, 8192]),
    "below the smallest side": edit(("photo.png", png_bytes(15, 64)), limit=[16, 8192]),
    "above the largest side": edit(("photo.png", encoded(Image.new("L", (8193, 16)))), limit=[16, 8192]),
    "more pixels than allowed": edit(("photo.png", png_with_header(8000, 6000)), limit=40_000_000),
    "PNG bomb": edit(("photo.png", png_with_header(60_000, 60_000)), limit=40_000_000),
    "PNG bomb that Pillow only warns of": edit(("photo.png", png_with_header(12_000, 12_000)), limit=[16, 8192]),
    "PNG of the largest size there is": edit(("photo.png", png_with_header(2**31 - 1, 2**31 - 1)), limit=40_000_000),
    "WebP bomb": edit(("photo.webp", webp_with_canvas(2**24, 2**8)), limit=40_000_000),
    "WebP bomb that Pillow only warns of": edit(("photo.webp", webp_with_canvas(12_000, 12_000))),
    "PNG with a text bomb": edit(("photo.png", png_with_header(64, 64, TEXT_BOMB))),
    "PNG with a colour profile bomb": edit(
        ("photo.png", png_with_header(64, 64, chunk(b"iCCP", b"p\0\0" + zlib.compress(b"\0" * 200_000_000, 9))))
    ),
    "PNG with fewer pixels than its header says": edit(("photo.png", png_with_header(512, 512))),
    "mask of another size": fill(png_bytes(96, 64), mask_bytes(64, 96), "mask", says="64x96"),
    "mask that is no picture": fill(png_bytes(), b"black and white", "mask"),
    "mask that is empty": fill(png_bytes(), b"", "mask", says="empty"),
    "image that is no picture": fill(b"oops", mask_bytes(), "image"),
    "both at fault": fill(b"oops", b"oops", "image"),
}

CASES = [
    pytest.param(bad, id=f"{group}: {name}")
    for group, table in (("parameters", PARAMETERS), ("forms", FORMS), ("uploads", UPLOADS))
    for name, bad in table.items()
]


def refused(response: Any) -> Any:
    """Return the error of a 4xx answer, after a check of its shape."""
    assert response.headers["Content-Type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    return ErrorBody.model_validate(body).error


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # outside of tests it is only a log line
@pytest.mark.parametrize("bad", CASES)
def test_bad_input_is_refused_by_field_and_limit_and_leaves_nothing(untouched_server: Server, bad: Bad):
    # when
    response = untouched_server.client.post(bad.path, **bad.send)

    # then
    assert response.status_code == bad.status, response.text[:500]
    error = refused(response)
    assert (error.code, error.details.get("field")) == (bad.code, bad.field), error.message
    assert error.details.get("limit") == bad.limit
    assert bad.says in error.message
    assert bad.field.lower() in error.message.lower()
    assert len(response.content) < 2000, "the answer echoes the input"
    untouched_server.assert_nothing_left()


@pytest.mark.parametrize(
    "name",
    [
        "job_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "img_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "nothing",
        "..",
        "%2e%2e",
        "../../flux-image.db",
        "..%2f..%2fflux-image.db",
        "%2e%2e%2f%2e%2e%2fflux-image.db",
        "%2e%2e/%2e%2e/flux-image.db",
        "..%5c..%5cflux-image.db",
        "..%252f..%252fflux-image.db",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "....//....//flux-image.db",
        "%00",
        "x%00.png",
        "%ff%fe",
        "%ed%a0%80",
        "x" * 4000,
        "'%20OR%201=1--",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/jobs/{}"),
        ("POST", "/api/jobs/{}/cancel"),
        ("POST", "/api/jobs/{}/hold"),
        ("POST", "/api/jobs/{}/front"),
        ("GET", "/api/images/{}"),
    ],
)
def test_an_id_that_is_unknown_or_climbs_directories_is_404(
    untouched_server: Server, method: str, path: str, name: str
):
    # when
    status, _, body = untouched_server.call_as_written(method, path.format(name))

    # then
    assert status == 404
    assert ErrorBody.model_validate_json(body).error.code == "not_found"
    untouched_server.assert_nothing_left()


@pytest.mark.parametrize(
    ("send", "status", "field"),
    [
        ({"json": {"priority": 101}}, 422, "priority"),
        ({"json": {"priority": "1"}}, 422, "priority"),
        ({"json": {"priority": None}}, 422, "priority"),
        ({"json": {"job_class": "urgent"}}, 422, "job_class"),
        ({"json": {"deadline": "9999-12-31T23:59:59-12:00"}}, 422, "deadline"),
        ({"json": {"not_before": "soon"}}, 422, "not_before"),
        ({"json": {"status": "succeeded"}}, 422, "status"),
        ({"json": ["priority"]}, 422, "body"),
        ({"content": b"{", "headers": {"Content-Type": JSON}}, 422, "body"),
        ({"content": b"priority=1", "headers": {"Content-Type": "text/plain"}}, 415, "Content-Type"),
        ({"data": {"priority": "1"}}, 415, "Content-Type"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_changes_nothing(server: Server, send, status: int, field: str):
    # given
    job = server.client.post("/api/generate", json={"prompt": PROMPT, "priority": 3}).json()

    # when
    response = server.client.patch(job["urls"]["self"], **send)

    # then
    assert response.status_code == status
    assert refused(response).details["field"] == field
    assert server.client.get(job["urls"]["self"]).json() == job


@pytest.mark.parametrize(
    ("query", "field", "limit"),
    [
        ("status=done", "status", None),
        ("kind=paint", "kind", None),
        ("limit=0", "limit", 1),
        ("limit=201", "limit", 200),
        ("limit=many", "limit", None),
        ("cursor=" + "x" * 4000, "cursor", None),
        ("cursor=yesterday", "cursor", None),
        ("cursor=job_%00", "cursor", None),
    ],
)
def test_a_list_that_cannot_be_made_is_refused(untouched_server: Server, query: str, field: str, limit: int | None):
    # when
    response = untouched_server.client.get(f"/api/jobs?{query}")

    # then
    assert response.status_code == 422
    details = refused(response).details
    assert details["field"].startswith(field)
    assert details.get("limit") == limit


@pytest.mark.parametrize("query", ["wait=601", "wait=-1", "wait=nan", "wait=inf", "wait=x", "since=-1", "since=1.5"])
def test_a_long_poll_that_cannot_be_done_is_refused(server: Server, query: str):
    # given
    job = server.client.post("/api/generate", json={"prompt": PROMPT}).json()

    # when
    response = server.client.get(f"{job['urls']['self']}?{query}")

    # then
    assert response.status_code == 422
    assert refused(response).details["field"] == query.partition("=")[0]


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/generate"), ("DELETE", "/api/jobs"), ("PUT", "/health")])
def test_a_method_that_a_path_has_not_is_405_and_says_which_it_has(untouched_server: Server, method: str, path: str):
    # when
    response = untouched_server.client.request(method, path)

    # then
    assert response.status_code == 405
    assert refused(response).code == "method_not_allowed"
    assert response.headers["Allow"]


MAX_BYTES = 100_000


@pytest.fixture
def small_server(start_server: ServerFactory) -> Server:
    """A server that takes little, so that tests need not send much."""
    return start_server(max_upload_bytes=MAX_BYTES)


def test_a_request_above_the_limit_is_refused_by_its_length_before_a_byte_is_read(small_server: Server):
    # given
    stream = Endless()

    # when
    status, headers, body = post_endlessly(
        small_server, stream, {"Content-Length": str(MAX_BYTES + 1), "Content-Type": MULTIPART}
    )

    # then
    assert status == 413
    assert stream.taken == 0
    error = ErrorBody.model_validate_json(body).error
    assert (error.code, error.details) == ("upload_too_large", {"field": "body", "limit": MAX_BYTES})
    assert headers["access-control-allow-origin"] == "http://localhost:5173"
    small_server.assert_nothing_left()


@pytest.mark.parametrize("content_type", [MULTIPART, JSON])
def test_a_request_of_unknown_length_is_refused_as_soon_as_it_is_above_the_limit(
    small_server: Server, content_type: str
):
    # given
    stream = Endless()

    # when
    status, headers, body = post_endlessly(
        small_server, stream, {"Content-Type": content_type, "Transfer-Encoding": "chunked"}
    )

    # then
    assert status == 413
    assert MAX_BYTES < stream.taken <= MAX_BYTES + Endless.CHUNK
    error = ErrorBody.model_validate_json(body).error
    assert (error.code, error.details) == ("upload_too_large", {"field": "body", "limit": MAX_BYTES})
    assert headers["access-control-allow-origin"] == "http://localhost:5173"
    small_server.assert_nothing_left()


@pytest.mark.parametrize("length", ["-1", "1e9", "", "٣"])
def test_a_length_that_is_no_number_does_not_lift_the_limit(small_server: Server, length: str):
    # when
    status, _, _ = post_endlessly(small_server, Endless(), {"Content-Type": MULTIPART, "Content-Length": length})

    # then
    assert status == 413


def test_a_request_at_the_limit_is_read(small_server: Server):
    # given
    frame = len('{"prompt": ""}')

    # when
    response = small_server.client.post(
        "/api/generate", content=b'{"prompt": "' + b"x" * (MAX_BYTES - frame) + b'"}', headers={"Content-Type": JSON}
    )

    # then: it is only too long for a prompt
    assert response.status_code == 422


class Endless:
    """A request body that never ends; counts the bytes that were taken from it."""

    CHUNK = 16_384

    def __init__(self) -> None:
        self.taken = 0

    async def receive(self) -> dict[str, Any]:
        part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
        self.taken += self.CHUNK
        return {"type": "http.request", "body": part.ljust(self.CHUNK, b"x"), "more_body": True}


def post_endlessly(server: Server, stream: Endless, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
    path = "/api/generate" if headers["Content-Type"] == JSON else "/api/edit"
    return server.call_as_written("POST", path, {"Origin": "http://localhost:5173", **headers}, stream.receive)


def test_every_fault_of_a_request_is_told_at_once(untouched_server: Server):
    # when
    response = untouched_server.client.post(
        "/api/generate", json={"prompt": "", "width": 250, "seed": -1, "colour": "red"}
    )

    # then
    error = refused(response)
    fields = [problem["field"] for problem in error.details["problems"]]
    assert sorted(fields) == ["colour", "prompt", "seed", "width"]
    assert all(field in error.message for field in fields)

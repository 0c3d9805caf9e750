"""Bad input is a clear 4xx that names field and limit; nothing of it is kept."""

from __future__ import annotations

import zlib

import pytest
from PIL import Image

from shared.domain.params import MAX_PROMPT_CHARACTERS, MAX_SEED
from shared.domain.samplers import SAMPLERS
from tests.endpoints.bad_requests import (
    FORM,
    JSON,
    JSON_OR_FORM,
    MULTIPART,
    PROMPT,
    SVG,
    TEXT_BOMB,
    Bad,
    animated,
    chunk,
    edit,
    fill,
    form,
    json_body,
    multipart,
    painting,
    png_with_header,
    raw_json,
    refused,
    webp_with_canvas,
    wrong_type,
)
from tests.endpoints.server import Server
from tests.factories import encoded, mask_bytes, noise_bytes, picture, png_bytes

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
    "seed below the one that means random": json_body(-1, seed=-2),
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
    "file sent as text": multipart(
        ('name="prompt"', b"x"), ('name="file"', png_bytes()), names="file", says="send it as a part with a file name"
    ),
    "file left out": multipart(('name="prompt"', b"x"), names="file", says="missing or empty"),
    "an empty part for the file": multipart(
        ('name="prompt"', b"x"), ('name="file"', b""), names="file", says="missing or empty"
    ),
    "prompt sent as a file": multipart(
        ('name="prompt"; filename="p"', b"x"),
        ('name="file"; filename="a.png"', png_bytes()),
        names="prompt",
        says="send it as a part without a file name",
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
    "mask without a white pixel": fill(png_bytes(), encoded(Image.new("L", (96, 64))), "mask", says="black all over"),
    "mask that is empty": fill(png_bytes(), b"", "mask", says="empty"),
    "image that is no picture": fill(b"oops", mask_bytes(), "image"),
    "both at fault": fill(b"oops", b"oops", "image"),
}

CASES = [
    pytest.param(bad, id=f"{group}: {name}")
    for group, table in (("parameters", PARAMETERS), ("forms", FORMS), ("uploads", UPLOADS))
    for name, bad in table.items()
]


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
    for word in ("<class", "UploadFile", "Value error", "Traceback"):
        assert word not in response.text
    untouched_server.assert_nothing_left()


def test_every_fault_of_a_request_is_told_at_once(untouched_server: Server):
    # when
    response = untouched_server.client.post(
        "/api/generate", json={"prompt": "", "width": 250, "seed": -2, "colour": "red"}
    )

    # then
    error = refused(response)
    fields = [problem["field"] for problem in error.details["problems"]]
    assert sorted(fields) == ["colour", "prompt", "seed", "width"]
    assert all(field in error.message for field in fields)

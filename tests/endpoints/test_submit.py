"""What a good request becomes."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from shared.catalog import CATALOG
from shared.domain.params import MAX_SEED
from shared.schemas.jobs import JobRead
from shared.schemas.requests import TextGenerateRequest
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server
from tests.endpoints.submitting import PROMPT, submit
from tests.factories import decoded, encoded, mask_bytes, picture, png_bytes


@pytest.mark.parametrize(
    ("kind", "model", "steps", "guidance"),
    [("generate", "demo", 4, 0.0), ("edit", "demo-kontext", 8, 2.5), ("fill", "demo-fill", 8, 30.0)],
)
def test_a_job_is_accepted_with_the_model_s_own_defaults(server: Server, kind, model, steps, guidance):
    # when
    response = submit(server, kind)

    # then
    assert response.status_code == 202
    job = JobRead.model_validate_json(response.content)
    assert response.headers["Location"] == f"/api/jobs/{job.id}" == job.urls.self
    assert (job.kind, job.status, job.model) == (kind, "queued", model)
    assert job.params["num_inference_steps"] == steps
    assert job.params["guidance_scale"] == guidance
    assert job.params["prompt"] == PROMPT
    assert server.jobs.get(job.id) is not None


def test_the_answer_has_every_field_of_a_job(server: Server):
    # when
    body = submit(server, "generate").json()

    # then
    seed = body["params"]["seed"]
    times = {"created_at": body["created_at"], "id": body["id"]}
    assert body == {
        **times,
        "kind": "generate",
        "status": "queued",
        "phase": None,
        "status_seq": 1,
        "model": "demo",
        "generator": "local",
        "generator_reason": "auto: this machine has no CUDA device, but no Space is configured",
        "route": [{"generator": "local", "lane": "gpu", "model": "demo", "first": 0, "count": 1}],
        "leg": 0,
        "enhancement": None,
        "params": {
            "prompt": PROMPT,
            "num_inference_steps": 4,
            "guidance_scale": 0.0,
            "width": 256,
            "height": 256,
            "seed": seed,
            "num_images": 1,
            "precision": "exact",
            "output_format": "png",
        },
        "job_class": "normal",
        "priority": 0,
        "not_before": None,
        "deadline": None,
        "held": False,
        "progress": {"step": 0, "total_steps": 4, "value": 0.0, "image_index": 0},
        "queue_position": 0,
        "eta_seconds": None,
        "attempt": 0,
        "attempts": [],
        "error": None,
        "inputs": [],
        "images": [],
        "timings": {"queue_wait_seconds": None, "load_seconds": None, "run_seconds": None},
        "accelerations": [],
        "warnings": [],
        "cancel_requested": False,
        "started_at": None,
        "finished_at": None,
        "urls": {
            "self": f"/api/jobs/{body['id']}",
            "cancel": f"/api/jobs/{body['id']}/cancel",
            "preview": f"/api/jobs/{body['id']}/preview",
            "grid": None,
        },
    }


def test_the_defaults_of_the_request_model_are_those_of_flux_schnell():
    # when
    request = TextGenerateRequest(prompt="x")

    # then
    assert (request.num_inference_steps, request.guidance_scale) == (4, 0.0)
    assert (request.width, request.height, request.seed) == (1024, 1024, None)


def test_what_the_caller_leaves_out_takes_the_chosen_model_s_own_default(server: Server):
    # when
    params = submit(server, "generate", model="dev", width=512).json()["params"]

    # then
    assert (params["num_inference_steps"], params["guidance_scale"]) == (28, 3.5)
    assert (params["width"], params["height"]) == (512, 1024)


def test_a_default_that_the_caller_writes_out_is_kept(server: Server):
    # when
    params = submit(server, "generate", model="dev", num_inference_steps=4, guidance_scale=0).json()["params"]

    # then
    assert (params["num_inference_steps"], params["guidance_scale"]) == (4, 0.0)


def test_a_model_can_be_named_by_its_repository(server: Server):
    assert submit(server, "generate", model="black-forest-labs/FLUX.1-dev").json()["model"] == "dev"


def test_a_seed_that_is_given_is_kept(server: Server):
    assert submit(server, "generate", seed=MAX_SEED).json()["params"]["seed"] == MAX_SEED


def test_a_seed_that_is_left_out_is_drawn_once_and_recorded(server: Server):
    # when
    first, second = (submit(server, "generate").json() for _ in range(2))

    # then
    assert first["params"]["seed"] != second["params"]["seed"]
    assert server.client.get(first["urls"]["self"]).json()["params"]["seed"] == first["params"]["seed"]


@pytest.mark.parametrize("kind", ["generate", "edit", "fill"])
def test_a_seed_of_minus_one_is_drawn_and_the_drawn_one_is_shown(server: Server, kind: str):
    # when
    first, second = (submit(server, kind, seed=-1).json()["params"]["seed"] for _ in range(2))

    # then
    assert min(first, second) >= 0
    assert first != second


def fill_with(server: Server, image: bytes, mask: bytes):
    files = {"image": ("photo.png", image), "mask": ("mask.png", mask)}
    return server.client.post("/api/fill", data={"prompt": PROMPT}, files=files)


def test_a_fill_keeps_the_size_of_its_picture(server: Server):
    # when
    body = fill_with(server, png_bytes(250, 187), mask_bytes(250, 187)).json()

    # then
    assert (body["params"]["width"], body["params"]["height"]) == (250, 187)
    assert body["warnings"] == []
    assert server.jobs.get(body["id"]).params.width == 250


def test_what_is_odd_about_a_mask_is_in_the_first_answer(server: Server):
    assert (
        "white all over" in fill_with(server, png_bytes(), encoded(Image.new("L", (96, 64), 255))).json()["warnings"][0]
    )


@pytest.mark.parametrize("kind", ["generate", "edit", "fill"])
def test_words_that_mean_something_elsewhere_are_in_the_first_answer(server: Server, kind: str):
    assert "(fox:1.3)" in submit(server, kind, prompt="a (fox:1.3) in snow").json()["warnings"][0]


def test_null_means_left_out(server: Server):
    assert isinstance(submit(server, "generate", seed=None, model=None).json()["params"]["seed"], int)


def test_every_field_of_a_form_is_heard(server: Server):
    # given
    wanted = {
        "num_inference_steps": 3,
        "guidance_scale": 1.5,
        "width": 128,
        "height": 64,
        "seed": 11,
        "num_images": 2,
    }

    # when
    body = submit(server, "edit", model="demo-kontext", **wanted).json()

    # then
    assert body["params"] == {"prompt": PROMPT, **wanted, "precision": "exact", "output_format": "png"}


@pytest.mark.parametrize("kind", ["edit", "fill"])
def test_an_empty_form_field_means_left_out(server: Server, kind: str):
    # when
    response = submit(server, kind, seed="", width="", height="", model="")

    # then
    assert response.status_code == 202
    assert response.json()["model"] == f"demo-{'kontext' if kind == 'edit' else 'fill'}"


def test_uploads_are_stored_under_names_that_the_server_chose(server: Server):
    # when
    response = server.client.post(
        "/api/fill",
        data={"prompt": PROMPT},
        files={"image": ("../../etc/passwd", png_bytes()), "mask": ("/etc/shadow", mask_bytes())},
    )

    # then
    job = response.json()
    assert job["inputs"] == [
        {"role": "image", "width": 96, "height": 64},
        {"role": "mask", "width": 96, "height": 64},
    ]
    stored = {str(path.relative_to(server.settings.media_dir)) for path in server.media_files()}
    assert stored == {f"{job['id']}/input-image.png", f"{job['id']}/input-mask.png"}
    assert decoded(server.storage.read(f"{job['id']}/input-mask.png")).mode == "L"


def test_an_edit_takes_the_shape_of_its_picture_and_says_so(server: Server):
    # when: the picture is 96 x 64; the demo edits at 256 x 256 pixels and never enlarges
    job = submit(server, "edit").json()

    # then
    assert (job["params"]["width"], job["params"]["height"]) == (96, 64)
    assert job["warnings"] == []


def test_an_edit_of_a_picture_that_is_off_the_grid_warns_of_the_other_size(server: Server):
    # when
    response = server.client.post(
        "/api/edit", data={"prompt": PROMPT}, files={"file": ("photo.png", png_bytes(1000, 700))}
    )

    # then
    job = response.json()
    width, height = job["params"]["width"], job["params"]["height"]
    assert width % 16 == height % 16 == 0
    assert width * height <= 256 * 256
    assert any("1000x700" in warning and f"{width}x{height}" in warning for warning in job["warnings"])


def test_guidance_on_a_model_that_has_none_is_accepted_with_a_warning(server: Server):
    # when
    job = submit(server, "generate", guidance_scale=3.5).json()

    # then
    assert any("guidance_scale" in warning for warning in job["warnings"])


def test_transparent_parts_are_laid_on_white_with_a_warning(server: Server):
    # given
    glass = picture(mode="RGBA")
    glass.putalpha(0)

    # when
    response = server.client.post("/api/edit", data={"prompt": PROMPT}, files={"file": ("photo.png", encoded(glass))})

    # then
    job = response.json()
    assert any(warning.startswith("file: ") and "white" in warning for warning in job["warnings"])
    assert decoded(server.storage.read(f"{job['id']}/input-image.png")).getcolors() == [(96 * 64, (255, 255, 255))]


def test_the_doorbell_rings_once_per_job_after_it_is_stored(start_server: ServerFactory):
    # given: nobody who rings again for what was not claimed for a while
    server = start_server(reconcile_interval_seconds=3600)

    # when
    jobs = [submit(server, kind).json()["id"] for kind in ("generate", "edit", "fill")]

    # then
    rings = [json.loads(message) for message in (server.broker.blpop("gpu", timeout=5)[1] for _ in jobs)]
    assert sorted(ring["headers"]["task"] for ring in rings) == ["edit", "fill", "generate"]
    assert {ring["headers"]["argsrepr"] for ring in rings} == {f"('{job}',)" for job in jobs}
    assert server.broker.llen("gpu") == 0


def test_weights_that_are_not_on_the_machine_are_a_warning_that_names_the_remedy(server: Server):
    # when
    response = submit(server, "generate", model="schnell")

    # then
    assert response.status_code == 202
    assert any("flux-image pull schnell" in warning for warning in response.json()["warnings"])


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON"])
def test_every_spelling_of_the_content_type_is_understood(server: Server, content_type: str):
    # when
    response = server.client.post("/api/generate", content='{"prompt": "x"}', headers={"Content-Type": content_type})

    # then
    assert response.status_code == 202


@pytest.mark.parametrize("kind", ["generate", "edit"])
@pytest.mark.parametrize(
    "prompt", ["Füchse im Schnee 雪の狐 🦊", " two\nlines\t", "x" * 4000, "🦊" * 4000, "<b>'; DROP TABLE jobs"]
)
def test_a_prompt_is_kept_as_it_was_written(server: Server, kind: str, prompt: str):
    # when
    job_id = submit(server, kind, prompt=prompt).json()["id"]

    # then
    assert server.client.get(f"/api/jobs/{job_id}").json()["params"]["prompt"] == prompt


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (8192, 16), (16, 8192), (4000, 3000), (640, 360)])
@pytest.mark.parametrize("model", ["demo-kontext", "kontext"])
def test_a_picture_of_any_shape_gets_a_size_that_its_model_can_do(server: Server, model: str, size: tuple[int, int]):
    # when
    response = server.client.post(
        "/api/edit", data={"prompt": PROMPT, "model": model}, files={"file": ("photo.png", png_bytes(*size))}
    )

    # then
    assert response.status_code == 202
    width, height = (response.json()["params"][side] for side in ("width", "height"))
    limits = CATALOG[model].limits
    assert width % 16 == height % 16 == 0
    assert limits.min_side <= min(width, height) <= max(width, height) <= limits.max_side
    assert width * height <= limits.max_pixels


def test_a_form_may_use_any_order_and_an_odd_file_name(server: Server):
    # when
    response = server.client.post(
        "/api/fill",
        data={"prompt": PROMPT, "seed": "3"},
        files={"mask": ("\N{SNOWMAN}", mask_bytes(), "text/html"), "image": ('a\r\nb: "c', png_bytes(), "x/y")},
    )

    # then
    assert response.status_code == 202


def paint(server: Server, fields: dict[str, object], **pictures: bytes):
    files = {name: (f"{name}.png", data) for name, data in pictures.items()}
    return server.client.post("/api/generate", data={"prompt": PROMPT, **fields}, files=files)


def test_a_generate_job_takes_pictures_to_start_from_and_to_follow(server: Server):
    # when
    fields = {"model": "sd15", "strength": "0.5", "negative_prompt": "blurry", "sampler": "Euler a", "seed": "3"}
    response = paint(server, fields, image=png_bytes(512, 512), reference=png_bytes(80, 40))

    # then
    assert response.status_code == 202, response.text
    job = server.jobs.get(response.json()["id"])
    assert {item.role: (item.width, item.height) for item in job.inputs} == {"image": (512, 512), "reference": (80, 40)}
    params = response.json()["params"]
    assert params == params | {
        "prompt": PROMPT, "num_inference_steps": 30, "guidance_scale": 7.5, "width": 512, "height": 512, "seed": 3,
        "num_images": 1, "negative_prompt": "blurry", "sampler": "Euler a", "strength": 0.5, "ip_adapter_scale": 0.6,
        "precision": "exact",
    }  # fmt: skip


def test_a_generate_form_without_pictures_is_the_same_job_as_json(server: Server):
    # when: the client sends each field as a part of a multipart body
    form = server.client.post("/api/generate", files={"prompt": (None, PROMPT), "seed": (None, "5")}).json()
    plain = submit(server, "generate", seed=5).json()

    # then
    assert form["params"] == plain["params"]


def test_a_picture_to_start_from_gives_the_result_its_size(server: Server):
    # when
    body = paint(server, {}, image=png_bytes(300, 200)).json()

    # then
    assert (body["params"]["width"], body["params"]["height"]) == (304, 192)
    assert body["params"]["strength"] == 0.6
    assert any("300x200" in warning for warning in body["warnings"])


def test_the_api_guide_shows_both_bodies_of_generate(server: Server):
    # when
    document = server.client.get("/openapi.json").json()

    # then
    content = document["paths"]["/api/generate"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    fields = content["multipart/form-data"]["schema"]["properties"]
    assert {"prompt", "image", "reference", "strength", "sampler", "priority"} <= set(fields)
    named = fields["job_class"].get("$ref", "").rpartition("/")[2]
    assert named in document["components"]["schemas"]

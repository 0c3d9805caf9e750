from __future__ import annotations

import json
import socket
import tempfile
import time
from pathlib import Path

import pytest

from shared.domain.params import MAX_SEED
from shared.schemas import ErrorBody, JobRead, TextGenerateRequest
from tests.endpoints.conftest import ServerFactory
from tests.endpoints.server import Server
from tests.factories import decoded, encoded, mask_bytes, picture, png_bytes

PROMPT = "a small red circle in the top left on a blue background"


def submit(server: Server, kind: str, **fields: object):
    if kind == "generate":
        return server.client.post("/api/generate", json={"prompt": PROMPT, **fields})
    files = {"file": ("photo.png", png_bytes())}
    if kind == "fill":
        files = {"image": ("photo.png", png_bytes()), "mask": ("mask.png", mask_bytes())}
    return server.client.post(f"/api/{kind}", data={"prompt": PROMPT, **fields}, files=files)


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
        "params": {
            "prompt": PROMPT,
            "num_inference_steps": 4,
            "guidance_scale": 0.0,
            "width": 256,
            "height": 256,
            "seed": seed,
            "num_images": 1,
        },
        "priority": 0,
        "progress": {"step": 0, "total_steps": 4, "value": 0.0, "image_index": 0},
        "queue_position": 0,
        "eta_seconds": None,
        "attempt": 0,
        "error": None,
        "inputs": [],
        "images": [],
        "timings": {"queue_wait_seconds": None, "load_seconds": None, "run_seconds": None},
        "warnings": [],
        "cancel_requested": False,
        "started_at": None,
        "finished_at": None,
        "urls": {"self": f"/api/jobs/{body['id']}", "cancel": f"/api/jobs/{body['id']}/cancel"},
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
    assert body["params"] == {"prompt": PROMPT, **wanted}


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


def test_the_doorbell_rings_once_per_job_after_it_is_stored(server: Server):
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


def test_a_full_queue_answers_429_with_a_time_to_come_back_and_keeps_no_upload(start_server: ServerFactory):
    # given
    server = start_server(max_queued_jobs=1)
    assert submit(server, "generate").status_code == 202

    # when
    response = submit(server, "fill")

    # then
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0
    error = ErrorBody.model_validate_json(response.content).error
    assert (error.code, error.details["limit"]) == ("queue_full", 1)
    assert server.count_jobs() == 1
    assert list(server.settings.media_dir.rglob("*")) == []


def test_the_queue_takes_jobs_again_once_one_has_started(start_server: ServerFactory):
    # given
    server = start_server(max_queued_jobs=1)
    submit(server, "generate")

    # when
    server.worker.start()

    # then
    assert submit(server, "generate").status_code == 202


def test_without_any_worker_ever_a_job_must_name_its_model(start_server: ServerFactory):
    # given
    server = start_server(worker=False)

    # when
    unnamed = submit(server, "edit")
    named = submit(server, "edit", model="demo-kontext")

    # then
    assert unnamed.status_code == 503
    assert int(unnamed.headers["Retry-After"]) > 0
    assert ErrorBody.model_validate_json(unnamed.content).error.code == "unavailable"
    assert named.status_code == 202
    assert server.count_jobs() == 1
    assert len(server.media_files()) == 1


def test_a_broker_that_is_away_does_not_keep_a_job_from_being_accepted(start_server: ServerFactory, tmp_path: Path):
    # given
    server = start_server(redis_url=f"unix://{tmp_path}/nobody.sock")

    # when
    started = time.monotonic()
    response = submit(server, "generate")
    seconds = time.monotonic() - started

    # then
    assert response.status_code == 202
    assert seconds < 1
    assert server.client.get(response.headers["Location"]).json()["status"] == "queued"


def test_a_broker_that_hangs_does_not_keep_a_job_from_being_accepted(start_server: ServerFactory):
    # given: it takes connections and never answers
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(f"{directory}/deaf.sock")
        deaf.listen()
        server = start_server(redis_url=f"unix://{directory}/deaf.sock")

        # when
        started = time.monotonic()
        response = submit(server, "generate")
        seconds = time.monotonic() - started

    # then
    assert response.status_code == 202
    assert seconds < 1

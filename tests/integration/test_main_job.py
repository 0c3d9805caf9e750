"""Generate, edit and fill through HTTP, the real queue, the real worker and real pipeline classes."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from shared.domain.status import JobStatus
from shared.schemas.jobs import ImageResponse
from tests.stack import wait_for

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PICTURE = EXAMPLES / "images" / "red-circle.png"
MASK = EXAMPLES / "images" / "mask.png"


def open_picture(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


class TestGenerate:
    def test_a_picture_comes_back_with_its_parameters_inside(self, client):
        # Given a request that sets only prompt and seed
        job = client.generate("a red circle on a blue background", seed=7)
        # When it is done
        done = client.wait(job.id, timeout_seconds=60)
        # Then the picture has the model's native size and tells how it was made
        image = Image.open(io.BytesIO(client.download(done.images[0])))
        assert image.size == (256, 256)
        assert json.loads(image.text["flux-image"]) == {
            "kind": "generate",
            "prompt": "a red circle on a blue background",
            "num_inference_steps": 4,
            "guidance_scale": 0.0,
            "width": 256,
            "height": 256,
            "seed": 7,
            "precision": "exact",
            "output_format": "png",
            "model": "demo",
            "sampler": "Euler",
            "scheduler": "FlowMatchEulerDiscreteScheduler",
            "generator": "local",
        }
        assert image.text["parameters"].startswith("a red circle on a blue background\nSteps: 4, Sampler: Euler")
        assert done.timings.run_seconds > 0
        assert done.timings.queue_wait_seconds is not None

    def test_equal_requests_give_equal_bytes(self, client):
        jobs = [client.generate("a green square", seed=3) for _ in range(2)]
        first, second = (client.download(client.wait(job.id).images[0]) for job in jobs)
        assert first == second

    def test_fewer_bits_make_another_picture_and_the_job_names_them(self, client):
        # Given the same request at each precision
        jobs = [client.generate("a red circle", seed=3, precision=name) for name in ("exact", "balanced", "compact")]
        # When they are done
        done = [client.wait(job.id, timeout_seconds=120) for job in jobs]
        # Then each has its own picture, and says what it gave up for it
        assert len({client.download(job.images[0]) for job in done}) == 3
        layout = ["fused_qkv", "channels_last_decode"]
        assert [[used.name for used in job.accelerations] for job in done] == [
            [],
            ["8_bit_weights", *layout],
            ["4_bit_weights", *layout],
        ]
        assert not any(used.lossless for job in done for used in job.accelerations)

    def test_another_seed_or_prompt_gives_another_picture(self, client):
        requests = [("a green square", 3), ("a green square", 4), ("a red circle", 3)]
        jobs = [client.generate(prompt, seed=seed) for prompt, seed in requests]
        pictures = [pixels(client.download(client.wait(job.id).images[0])) for job in jobs]
        assert not np.array_equal(pictures[0], pictures[1])
        assert not np.array_equal(pictures[0], pictures[2])

    def test_image_i_is_the_picture_of_seed_plus_i(self, client):
        # Given one job of three images and one of the third seed alone
        three = client.generate("a blue triangle", seed=10, num_images=3)
        alone = client.generate("a blue triangle", seed=12)
        # When both are done
        images = client.wait(three.id).images
        # Then they come in order, and the third equals the one made alone
        assert [(image.index, image.seed) for image in images] == [(0, 10), (1, 11), (2, 12)]
        assert client.download(images[2]) == client.download(client.wait(alone.id).images[0])

    def test_other_sizes_and_steps_are_honoured(self, client):
        job = client.wait(client.generate("a star", width=128, height=192, num_inference_steps=2).id)
        assert (job.images[0].width, job.images[0].height) == (128, 192)
        assert job.progress.total_steps == 2

    def test_words_the_demo_model_does_not_know_are_reported(self, client):
        job = client.wait(client.generate("a red astronaut").id)
        assert "demo model ignores: astronaut" in job.warnings

    def test_a_prompt_longer_than_the_model_reads_is_reported(self, client):
        job = client.wait(client.generate("a red circle " * 40).id)
        assert any("reads the first 24" in warning for warning in job.warnings)


class TestEditAndFill:
    def test_an_edit_takes_the_size_of_its_picture(self, client):
        job = client.wait(client.edit(PICTURE, "make it green", seed=1).id)
        assert job.model == "demo-kontext"
        assert (job.images[0].width, job.images[0].height) == (256, 256)

    def test_the_uploaded_picture_reaches_the_model(self, client, tmp_path):
        # Given two pictures and the same instruction and seed
        other = tmp_path / "other.png"
        Image.new("RGB", (256, 256), "yellow").save(other)
        jobs = [client.edit(path, "make it green", seed=1) for path in (PICTURE, other)]
        # When both are edited, then the results differ
        first, second = (pixels(client.download(client.wait(job.id).images[0])) for job in jobs)
        assert not np.array_equal(first, second)

    def test_a_large_upload_is_scaled_and_the_caller_is_told(self, client, tmp_path):
        large = tmp_path / "large.jpg"
        open_picture(PICTURE).resize((900, 600)).save(large)
        job = client.wait(client.edit(large, "make it green").id)
        assert (job.images[0].width, job.images[0].height) == (304, 208)
        assert any("the picture is 900x600" in warning for warning in job.warnings)

    def test_a_step_cache_is_used_and_named_for_the_job_that_asks_and_no_other(self, client):
        # Given an edit that computes every step
        plain = client.wait(client.edit(PICTURE, "make it green", seed=1).id)
        # When the same edit may skip steps, and once more when it may not
        cached = client.wait(
            client.edit(PICTURE, "make it green", seed=1, step_cache="first_block", step_cache_threshold=0.9).id
        )
        again = client.wait(client.edit(PICTURE, "make it green", seed=1, step_cache="off").id)
        # Then the result says so, in its metadata too, and the job after it is as if nothing had been
        before, skipped, after = (client.download(job.images[0]) for job in (plain, cached, again))
        assert [(used.name, used.lossless) for used in cached.accelerations] == [("first_block_cache", False)]
        assert cached.params["step_cache"] == "first_block"
        assert json.loads(Image.open(io.BytesIO(skipped)).text["flux-image"])["step_cache_threshold"] == 0.9
        assert not np.array_equal(pixels(before), pixels(skipped))
        assert before == after
        assert again.accelerations == []

    def test_a_fill_changes_only_the_white_part_of_the_mask(self, client):
        job = client.wait(client.fill(PICTURE, MASK, "a yellow square", seed=1).id)
        before, after = pixels(PICTURE.read_bytes()), pixels(client.download(job.images[0]))
        inside = pixels(MASK.read_bytes())[..., 0] >= 128
        assert np.array_equal(before[~inside], after[~inside])
        assert (before[inside] != after[inside]).any()


class TestWhileItRuns:
    LONG = {"num_inference_steps": 50, "width": 512, "height": 512}

    def test_progress_of_each_step_is_seen(self, client):
        # Given a job of fifty steps
        job = client.generate("a red circle", **self.LONG)
        # When it is polled while it runs
        seen = set()

        def poll() -> bool:
            now = client.job(job.id)
            if now.status is JobStatus.RUNNING and now.phase == "denoising":
                seen.add(now.progress.step)
                assert now.progress.value == pytest.approx(now.progress.step / 50, abs=1e-3)
            return len(seen) >= 5

        # Then several different steps are seen before the end
        wait_for(poll, "five steps seen", seconds=60)
        client.cancel(job.id)

    def test_a_queued_job_is_cancelled_at_once(self, client):
        running = client.generate("a red circle", **self.LONG)
        waiting = client.generate("never runs")
        assert client.cancel(waiting.id).status is JobStatus.CANCELLED
        client.cancel(running.id)

    def test_a_cancelled_run_leaves_no_trace_in_the_next_one(self, client):
        # Given a picture made before
        before = client.download(client.wait(client.generate("a red circle", seed=5).id).images[0])
        # When a running job is cancelled
        job = client.generate("a green square", **self.LONG)
        wait_for(lambda: client.job(job.id).progress.step >= 2, "the job is denoising", seconds=60)
        client.cancel(job.id)
        # Then it ends as cancelled without pictures, and the next picture is the same as before
        cancelled = wait_for(
            lambda: (now := client.job(job.id)).status is JobStatus.CANCELLED and now, "the job is cancelled"
        )
        assert cancelled.images == []
        after = client.download(client.wait(client.generate("a red circle", seed=5).id).images[0])
        assert after == before

    def test_cancelling_a_finished_job_changes_nothing(self, client):
        job = client.wait(client.generate("a red circle").id)
        again = client.cancel(job.id)
        assert (again.status, again.images) == (JobStatus.SUCCEEDED, job.images)
        assert not again.cancel_requested
        assert again.warnings == ["the job had already succeeded, so there was nothing to cancel"]
        assert client.job(job.id).warnings == []


class TestPlainSynchronousCallers:
    def test_generate_answers_with_the_picture_inside(self, stack):
        answer = httpx2.post(
            f"{stack.url}/api/generate",
            params={"wait": 60, "response_format": "b64_json"},
            json={"prompt": "a red circle", "seed": 1},
            timeout=90,
        )
        assert answer.status_code == 200
        png = base64.b64decode(ImageResponse.model_validate(answer.json()).image_base64)
        assert Image.open(io.BytesIO(png)).size == (256, 256)

    def test_edit_answers_with_the_picture_inside(self, stack):
        answer = httpx2.post(
            f"{stack.url}/api/edit?response_format=b64_json",
            data={"prompt": "make it green", "num_inference_steps": "2", "seed": "1"},
            files={"file": ("circle.png", PICTURE.read_bytes(), "image/png")},
            timeout=90,
        )
        assert answer.status_code == 200
        assert base64.b64decode(answer.json()["image_base64"]).startswith(b"\x89PNG")

    def test_a_job_whose_weights_are_missing_fails_with_the_remedy(self, stack):
        answer = httpx2.post(f"{stack.url}/api/generate?wait=60", json={"prompt": "a fox", "model": "dev"}, timeout=90)
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "model_unavailable"
        assert "flux-image pull dev" in error["message"]
        assert error["details"]["job"]["status"] == "failed"


class TestScripts:
    def test_the_batch_example_saves_a_picture_per_prompt(self, stack, tmp_path):
        prompts = tmp_path / "prompts.txt"
        prompts.write_text("a red circle\n\na blue square\n")
        command = [sys.executable, EXAMPLES / "submit_batch.py", prompts, tmp_path / "out", "--url", stack.url]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        assert len(finished.stdout.splitlines()) == 2
        assert len(list((tmp_path / "out").glob("job_*.png"))) == 2

    def test_models_say_what_runs_here_and_why(self, client):
        models = client.models()
        assert models.defaults["generate"] == "demo"
        assert "no CUDA device" in models.default_reasons["generate"]
        by_id = {model.id: model for model in models.models}
        assert by_id["demo"].available
        assert by_id["demo"].demo
        assert not by_id["kontext"].available
        assert "flux-image pull kontext" in by_id["kontext"].reason

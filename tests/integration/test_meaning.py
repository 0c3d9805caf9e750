"""What was asked for is seen in the pixels: prompt, picture, mask and seed reach the model through the whole stack."""

import io
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.stack import wait_for
from worker.demo import checker

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "images"
PICTURE, MASK = EXAMPLES / "red-circle.png", EXAMPLES / "mask.png"


def seen(client, job):
    """Wait for the job and read its first picture back into words."""
    done = client.wait(job.id, timeout_seconds=90)
    return checker.read(pixels(client.download(done.images[0])))


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(
    ("prompt", "colour", "background", "position"),
    [
        ("a large green triangle in the center on a white background", "green", "white", "center"),
        ("a large red circle on the left on a blue background", "red", "blue", "left"),
        ("a small orange square in the bottom right on a green background", "orange", "green", "bottom right"),
    ],
)
def test_a_picture_shows_what_the_prompt_says(client, prompt, colour, background, position):
    reading = seen(client, client.generate(prompt, seed=1))
    assert (reading.colour, reading.background, reading.position) == (colour, background, position)


def test_an_edit_changes_what_is_asked_and_keeps_the_rest(client):
    # Given a red circle in the middle of a blue background
    before = checker.read(pixels(PICTURE.read_bytes()))
    assert (before.colour, before.background, before.position) == ("red", "blue", "center")
    # When it is made green
    after = seen(client, client.edit(PICTURE, "make it green", seed=1))
    # Then it is green, where it was, on the background it had
    assert (after.colour, after.background, after.position) == ("green", "blue", "center")


def test_an_edit_follows_its_instruction(client):
    removed = seen(client, client.edit(PICTURE, "remove it", seed=1))
    assert (removed.is_empty, removed.background) == (True, "blue")
    repainted = seen(client, client.edit(PICTURE, "make the background yellow", seed=1))
    assert (repainted.background, repainted.colour) == ("yellow", "red")


def test_a_fill_paints_what_is_asked_inside_the_mask_only(client):
    job = client.wait(client.fill(PICTURE, MASK, "a large yellow square in the center on a blue background", seed=1).id)
    before, after = pixels(PICTURE.read_bytes()), pixels(client.download(job.images[0]))
    outside = pixels(MASK.read_bytes())[..., 0] < 128
    assert np.array_equal(before[outside], after[outside])
    reading = checker.read(after)
    assert (reading.colour, reading.background) == ("yellow", "blue")


def test_a_preview_of_a_running_job_has_the_colours_of_its_picture(stack, client):
    # Given a job of many steps
    prompt = "a large red circle in the center on a blue background"
    job = client.generate(prompt, seed=1, num_inference_steps=50)
    previews: list[bytes] = []

    # When its preview is asked for again and again until it has ended
    def ended() -> bool:
        answer = httpx2.get(f"{stack.url}{job.urls.preview}")
        previews.extend([answer.content] if answer.status_code == 200 else [])
        return answer.status_code == 404

    wait_for(ended, "the job ends", seconds=90)
    done = client.job(job.id)
    # Then previews came, and the last one shows in small what the picture shows
    final = checker.read(pixels(client.download(done.images[0])))
    small = Image.open(io.BytesIO(previews[-1]))
    assert (small.format, small.size) == ("WEBP", (32, 32))
    shown = checker.read(np.asarray(small.convert("RGB").resize((256, 256))))
    assert (shown.colour, shown.background) == (final.colour, final.background) == ("red", "blue")
    assert done.urls.preview is None

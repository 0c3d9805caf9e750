"""Finished pictures as files: the pixels, the texts in them, and that equal input gives equal bytes."""

import io
import json

import numpy as np
import pytest
from PIL import ExifTags, Image

from shared.domain.output_format import OutputFormat
from shared.domain.status import JobStatus
from tests.builders import new_job, params
from tests.contract.scripted import paint, run_to_its_end
from tests.factories import picture
from worker.pipelines.encode import encode

PARAMETERS = {**params(prompt="ein Fuchs – 狐").model_dump(mode="json"), "model": "demo"}
GRADIENT = Image.fromarray(np.indices((64, 96)).sum(0).astype(np.uint8)).convert("RGB")


def opened(output_format, image=GRADIENT):
    found = Image.open(io.BytesIO(encode(image, PARAMETERS, output_format)))
    found.load()
    return found


@pytest.mark.parametrize("output_format", [*OutputFormat])
def test_the_file_is_of_its_format_and_close_to_the_pixels(output_format):
    found = opened(output_format)
    assert found.get_format_mimetype() == output_format.content_type
    assert (found.mode, found.size) == ("RGB", GRADIENT.size)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(GRADIENT)).max() <= (0 if output_format == "png" else 6)


def test_png_keeps_every_pixel_of_a_hard_picture():
    hard = picture(128, 96)
    assert np.array_equal(np.asarray(opened(OutputFormat.PNG, hard)), np.asarray(hard))


@pytest.mark.parametrize("output_format", [*OutputFormat])
def test_equal_input_gives_equal_bytes(output_format):
    assert encode(GRADIENT, PARAMETERS, output_format) == encode(GRADIENT, PARAMETERS, output_format)


@pytest.mark.parametrize("output_format", [*OutputFormat])
def test_every_format_says_how_the_picture_was_made(output_format):
    found = opened(output_format)
    if output_format is OutputFormat.PNG:
        a1111, as_json = found.text["parameters"], found.text["flux-image"]
    else:
        exif = found.getexif()
        comment = exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        a1111, as_json = comment.removeprefix(b"UNICODE\x00").decode("utf-16-be"), exif[ExifTags.Base.ImageDescription]
    assert a1111.startswith("ein Fuchs – 狐\nSteps: 4, Sampler: Euler")
    assert json.loads(as_json) == PARAMETERS


@pytest.mark.parametrize("output_format", [*OutputFormat])
def test_the_longest_prompt_fits_into_every_format(output_format):
    data = encode(GRADIENT, {**PARAMETERS, "prompt": "狐" * 4000}, output_format)
    assert Image.open(io.BytesIO(data)).size == GRADIENT.size


@pytest.mark.parametrize(("output_format", "suffix"), [("png", ".png"), ("webp", ".webp"), ("jpeg", ".jpg")])
def test_a_job_s_pictures_have_the_format_it_asked_for(make_runner, jobs, storage, output_format, suffix):
    job = jobs.add(new_job(params=params(output_format=output_format)), 10)
    run_to_its_end(make_runner(paint))
    done = jobs.get(job.id)
    assert done.status is JobStatus.SUCCEEDED
    assert done.images[0].path == f"{job.id}/1-0{suffix}"
    assert done.images[0].content_type == f"image/{output_format}"
    assert Image.open(io.BytesIO(storage.read(done.images[0].path))).format == output_format.upper()

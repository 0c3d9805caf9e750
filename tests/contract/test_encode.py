"""Finished pictures as files: the pixels, the texts in them, and that equal input gives equal bytes."""

import io
import json

import numpy as np
import pytest
from PIL import ExifTags, Image

from shared.domain.acceleration import MODULATION_TABLE, TILED_DECODE
from shared.domain.job import JobInput
from shared.domain.output_format import OutputFormat
from shared.domain.params import InputRole
from shared.domain.status import JobStatus
from tests.builders import new_job, params
from tests.contract.scripted import PAINTED, paint, run_to_its_end
from tests.factories import picture
from worker.pipelines.encode import encode, fitting

PARAMETERS = {**params(prompt="ein Fuchs – 狐").model_dump(mode="json"), "model": "demo", "sampler": "Euler"}
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


def texts(data):
    """The two texts of a file, whatever its format."""
    found = Image.open(io.BytesIO(data))
    if found.format == "PNG":
        return found.text["parameters"], json.loads(found.text["flux-image"])
    exif = found.getexif()
    comment = exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    a1111 = comment.removeprefix(b"UNICODE\x00").decode("utf-16-be")
    return a1111, json.loads(exif[ExifTags.Base.ImageDescription])


LONG = {"prompt": "🦊" * 4000, "negative_prompt": "狐" * 4000, "original_prompt": "a" * 4000}


@pytest.mark.parametrize("output_format", [OutputFormat.PNG, OutputFormat.WEBP])
def test_texts_of_any_length_are_whole_where_the_format_has_room(output_format):
    a1111, as_json = texts(encode(GRADIENT, {**PARAMETERS, **LONG}, output_format))
    assert as_json == {**PARAMETERS, **LONG}
    assert all(text in a1111 for text in LONG.values())


def test_texts_that_a_jpeg_has_no_room_for_are_cut_as_little_as_need_be():
    # Given texts of more than a segment's 64 kB
    fitted = fitting({**PARAMETERS, **LONG}, OutputFormat.JPEG)
    data = encode(GRADIENT, {**PARAMETERS, **LONG}, OutputFormat.JPEG)
    # Then the file holds the beginning of each, and every setting
    a1111, as_json = texts(data)
    assert as_json == fitted
    assert a1111.count("🦊") > 1000
    for name, text in LONG.items():
        kept = fitted[name].removesuffix(" [cut]")
        assert 1000 < len(kept) < len(text)
        assert text.startswith(kept)
    assert "Seed: 1" in a1111
    # And one character more would have been too many
    assert 65_533 - 40 < len(Image.open(io.BytesIO(data)).info["exif"]) <= 65_533


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


def run_one(make_runner, jobs, storage, script=paint, **asked):
    """Run a job to its end and return it with the texts of its first picture."""
    job = jobs.add(new_job(params=params(**asked)), 10)
    run_to_its_end(make_runner(script))
    done = jobs.get(job.id)
    assert done.status is JobStatus.SUCCEEDED, done.error
    return done, *texts(storage.read(done.images[0].path))


@pytest.mark.parametrize("output_format", [*OutputFormat])
def test_a_picture_says_what_its_generator_did(make_runner, jobs, storage, output_format):
    def script(context):
        context.on_details({"scheduler": "AnyScheduler", "sampler": "Any", "model_revision": "0123abc", "seed": 77})
        context.on_acceleration(TILED_DECODE)
        paint(context)
        context.on_acceleration(MODULATION_TABLE)

    _, a1111, as_json = run_one(make_runner, jobs, storage, script, output_format=output_format)
    wanted = {"scheduler": "AnyScheduler", "sampler": "Any", "model_revision": "0123abc", "seed": 77, "width": 8}
    assert {name: as_json[name] for name in wanted} == wanted
    assert as_json["accelerations"] == ["tiled_decode"]
    for words in ("Sampler: Any, Scheduler: AnyScheduler", "Seed: 77, Size: 8x8", "Model revision: 0123abc"):
        assert words in a1111


def test_texts_that_were_cut_are_noted_in_the_job_which_has_them_whole(make_runner, jobs, storage):
    done, a1111, _ = run_one(
        make_runner, jobs, storage, prompt="🦊" * 4000, negative_prompt="狐" * 4000, output_format="jpeg"
    )
    assert a1111.startswith("🦊" * 1000)
    assert done.params.prompt == "🦊" * 4000
    note = "prompt, negative_prompt: too long for the metadata of a jpeg file"
    assert [warning.startswith(note) for warning in done.warnings] == [True]


@pytest.mark.parametrize(("colour", "says"), [("red", ["one colour all over"]), (None, [])])
def test_a_picture_of_one_colour_is_no_silent_success(make_runner, jobs, storage, colour, says):
    def script(context):
        context.on_image(0, Image.new("RGB", (8, 8), colour) if colour else PAINTED)

    done, *_ = run_one(make_runner, jobs, storage, script)
    assert [words in warning for words, warning in zip(says, done.warnings, strict=True)] == [True] * len(says)


def test_a_picture_that_equals_the_one_that_was_sent_is_no_silent_success(make_runner, jobs, storage):
    # Given a job with a picture, and a generator that gives it back
    buffer = io.BytesIO()
    PAINTED.save(buffer, "PNG")
    storage.put("in/input-image.png", buffer.getvalue())
    sent = JobInput(role=InputRole.IMAGE, path="in/input-image.png", width=8, height=8, size_bytes=1, sha256="0")
    job = jobs.add(new_job(params=params(strength=0.5), inputs=(sent,)), 10)
    run_to_its_end(make_runner(paint))
    # Then the job says that nothing was changed
    assert "nothing was changed" in jobs.get(job.id).warnings[0]

"""A consistent job from its row to its published picture, with the real runner and generator."""

import io

import numpy as np
import pytest
from PIL import Image

from shared.domain.job import JobInput
from shared.domain.params import InputRole
from shared.domain.status import JobStatus
from tests.builders import new_job, params
from tests.contract.scripted import paint, run_to_its_end
from tests.factories import encoded
from worker.generators.local import LocalGenerator

pytestmark = pytest.mark.timeout(600)  # the small model learns while other processes may hold the machine


def stored(storage, role: InputRole, image: Image.Image) -> JobInput:
    path, data = f"uploads/{role}.png", encoded(image)
    storage.put(path, data)
    return JobInput(role=role, path=path, width=image.width, height=image.height, size_bytes=len(data), sha256="0" * 64)


def test_reference_and_parameters_reach_the_model(make_runner, jobs, storage, hub_store, sd15):
    # Given a job as the API stores it: from a white picture towards a red one
    inputs = (
        stored(storage, InputRole.IMAGE, Image.new("RGB", (256, 256), "white")),
        stored(storage, InputRole.REFERENCE, Image.new("RGB", (64, 64), "red")),
    )
    asked = params(
        guidance_scale=2.0, sampler="Euler a", negative_prompt="blue", strength=0.8, ip_adapter_scale=1.0,
        num_inference_steps=5,
    )  # fmt: skip
    job = jobs.add(new_job(model=sd15, params=asked, inputs=inputs), 10)
    # When the worker runs it
    run_to_its_end(make_runner(paint, generator=LocalGenerator(hub_store)))
    # Then the picture is red, and says by what it was made
    done = jobs.get(job.id)
    assert done.status is JobStatus.SUCCEEDED, done.error
    picture = Image.open(io.BytesIO(storage.read(done.images[0].path)))
    red, green, blue = np.asarray(picture.convert("RGB"), float).mean((0, 1))
    assert red > green + 50
    assert red > blue + 50
    assert "Euler a" in "".join(map(str, picture.info.values()))

"""A job as keyword arguments of a generator."""

from __future__ import annotations

import io
from typing import cast

from PIL import Image

from shared.domain.errors import MediaMissing
from shared.domain.job import Job
from shared.storage.base import MediaStorage
from worker.generators.interface import GenerationOptions


def generation_options(job: Job, storage: MediaStorage) -> GenerationOptions:
    """Return the parameters of the job's current leg, and the job's pictures.

    Raises:
      MediaMissing: an input picture cannot be read any more.
    """
    params = job.leg_params.model_dump(exclude={"kind", "prompt"}, exclude_none=True)
    options = cast(GenerationOptions, {"model": job.route.current.model, **params})
    for item in job.inputs:
        options[item.role.value] = _open(storage, item.path)
    return options


def _open(storage: MediaStorage, key: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(storage.read(key)))
        image.load()
    except OSError as error:
        raise MediaMissing(f"The uploaded picture {key} cannot be read any more: {error}") from error
    return image

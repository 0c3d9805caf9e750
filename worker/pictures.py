"""One finished picture becomes a durable file and the record of it."""

from __future__ import annotations

import hashlib
from typing import Any

from PIL import Image

from shared.domain.errors import StorageFailed
from shared.domain.job import Claim, Job, JobImage
from shared.domain.route import Generator
from shared.ids import new_image_id
from shared.storage.base import MediaStorage
from worker.pipelines.encode import encode


def store_picture(storage: MediaStorage, job: Job, claim: Claim, index: int, image: Image.Image) -> JobImage:
    """Encode image ``index`` of a job's current leg in the format it asked for; write it under a key of this attempt.

    Raises:
      StorageFailed: it could not be written; nothing is left under the key.
    """
    leg = job.route.current
    index, seed = leg.first + index, job.leg_params.seed + index
    output_format = job.params.output_format
    data = encode(image, _parameters(job, seed), output_format)
    key = f"{job.id}/{claim.attempt}-{index}{output_format.suffix}"
    try:
        storage.put(key, data)
    except OSError as error:
        raise StorageFailed(f"The picture could not be written: {error.strerror or error}.") from error
    return JobImage(
        id=new_image_id(),
        index=index,
        seed=seed,
        width=image.width,
        height=image.height,
        path=key,
        content_type=output_format.content_type,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        generator=leg.generator,
    )


def _parameters(job: Job, seed: int) -> dict[str, Any]:
    """Return how a picture was made; the prompt is the one its generator got."""
    leg, original = job.route.current, job.params.prompt
    made = {"prompt": job.prompt, "seed": seed, "model": leg.model, "generator": leg.generator.value}
    unknown = {"num_images", "precision"} if leg.generator is Generator.REMOTE else {"num_images"}
    parameters = job.leg_params.model_dump(mode="json", exclude=unknown, exclude_none=True)
    return {**parameters, **made, **({"original_prompt": original} if job.prompt != original else {})}

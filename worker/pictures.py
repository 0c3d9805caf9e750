"""One finished picture becomes a durable file and the record of it."""

from __future__ import annotations

import hashlib

from PIL import Image

from shared.domain.errors import StorageFailed
from shared.domain.job import Claim, Job, JobImage
from shared.ids import new_image_id
from shared.storage.base import MediaStorage
from worker.pipelines.encode import encode_png


def store_picture(storage: MediaStorage, job: Job, claim: Claim, index: int, image: Image.Image) -> JobImage:
    """Encode image ``index`` of a job as PNG and write it under a key of this attempt alone.

    Raises:
      StorageFailed: it could not be written; nothing is left under the key.
    """
    seed = job.params.seed + index
    parameters = job.params.model_dump(mode="json", exclude={"num_images"}, exclude_none=True)
    data = encode_png(image, {**parameters, "seed": seed, "model": job.model})
    key = f"{job.id}/{claim.attempt}-{index}.png"
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
        content_type="image/png",
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )

"""One finished picture becomes a durable file and the record of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from shared.domain.acceleration import Acceleration
from shared.domain.errors import StorageFailed
from shared.domain.job import Claim, Job, JobImage
from shared.domain.route import Generator
from shared.ids import new_image_id
from shared.storage.base import MediaStorage
from worker.pipelines.encode import encode, fitting


@dataclass(frozen=True, slots=True)
class Making:
    """What is known of a picture's making only when it was made.

    ``details`` have the names of the file's metadata, and replace what the job says where both do.
    """

    details: Mapping[str, Any] = field(default_factory=dict)
    accelerations: Sequence[Acceleration] = ()


def store_picture(
    storage: MediaStorage,
    job: Job,
    claim: Claim,
    index: int,
    image: Image.Image,
    making: Making,
    warn: Callable[[str], None],
) -> JobImage:
    """Encode image ``index`` of a job's current leg in the format it asked for; write it under a key of this attempt.

    ``warn`` is told of texts that were cut.

    Raises:
      StorageFailed: it could not be written; nothing is left under the key.
    """
    leg = job.route.current
    index, seed = leg.first + index, job.leg_params.seed + index
    output_format = job.params.output_format
    record = _record(job, seed, image, making)
    fitted = fitting(record, output_format)
    if cut := [name for name, value in record.items() if fitted[name] != value]:
        warn(
            f"{', '.join(cut)}: too long for the metadata of a {output_format.value} file, which holds the beginning; "
            "the job has all of it"
        )
    data = encode(image, fitted, output_format)
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


def _record(job: Job, seed: int, image: Image.Image, making: Making) -> dict[str, Any]:
    """Return how a picture was made; the prompt is the one its generator got."""
    leg, original = job.route.current, job.params.prompt
    made = {
        "prompt": job.prompt,
        "seed": seed,
        "model": leg.model,
        "generator": leg.generator.value,
        "width": image.width,
        "height": image.height,
        "accelerations": [used.name for used in making.accelerations],
        "inputs": {item.role.value: item.sha256 for item in job.inputs},
    }
    if job.prompt != original and job.enhancement is not None:
        made |= {"original_prompt": original, "enhanced_by": job.enhancement.by}
    unknown = {"num_images", "precision"} if leg.generator is Generator.REMOTE else {"num_images"}
    parameters = job.leg_params.model_dump(mode="json", exclude=unknown, exclude_none=True)
    known = {**parameters, **made, **making.details}
    return {name: value for name, value in known.items() if value not in (None, [], {})}

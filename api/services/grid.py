"""One preview of all pictures of a job."""

from __future__ import annotations

import io
import math
from typing import Final

from PIL import Image

from shared.domain.errors import NotFound
from shared.domain.job import Job, JobImage
from shared.image_grid import image_grid
from shared.storage.base import MediaStorage

CELL_PIXELS: Final = 512
"""Longest side of a picture in the grid; the pictures themselves are one request away."""


class GridService:
    """Makes grids when they are asked for; none is stored."""

    def __init__(self, storage: MediaStorage) -> None:
        self._storage = storage

    def render(self, job: Job) -> bytes:
        """Return a PNG with every published picture, its index and who made it.

        Raises:
          NotFound: the job has no picture yet.
        """
        if not job.images:
            raise NotFound(f"Job {job.id} has no pictures yet.", id=job.id)
        columns = math.ceil(math.sqrt(len(job.images)))
        cells = [self._cell(image) for image in job.images]
        captions = [f"{image.index}: {image.generator.value}, seed {image.seed}" for image in job.images]
        grid = image_grid(cells, math.ceil(len(cells) / columns), columns, captions=captions)
        buffer = io.BytesIO()
        grid.save(buffer, "PNG")
        return buffer.getvalue()

    def _cell(self, image: JobImage) -> Image.Image:
        with Image.open(io.BytesIO(self._storage.read(image.path))) as picture:
            cell = picture.convert("RGB")
        cell.thumbnail((CELL_PIXELS, CELL_PIXELS))
        return cell

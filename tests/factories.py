"""Pictures, files and a worker's report for tests of every folder; jobs are in ``builders``."""

from __future__ import annotations

import hashlib
import io
import random

from PIL import Image, ImageDraw

from shared.catalog import CATALOG, DEFAULT_DEMO_MODELS
from shared.domain.job import JobImage
from shared.domain.precision import Precision
from shared.domain.report import DefaultModel, ModelReport, PrecisionReport, WorkerReport
from shared.domain.route import Generator
from shared.ids import new_image_id


def picture(width: int = 96, height: int = 64, mode: str = "RGB") -> Image.Image:
    """Return a picture with no symmetry: red, with a green top left quarter and a blue bottom edge."""
    image = Image.new("RGB", (width, height), "red")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 2 - 1, height // 2 - 1), fill="lime")
    draw.rectangle((0, height - height // 8, width, height), fill="blue")
    return image.convert(mode)


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_bytes(width: int = 96, height: int = 64) -> bytes:
    return encoded(picture(width, height))


def noise_bytes(width: int = 64, height: int = 64, file_format: str = "PNG", **options: object) -> bytes:
    """Return a file whose pixels do not compress, so that most of its bytes are pixels."""
    pixels = random.Random(7).randbytes(width * height * 3)
    return encoded(Image.frombytes("RGB", (width, height), pixels), file_format, **options)


def mask_bytes(width: int = 96, height: int = 64) -> bytes:
    """Return a mask that is white (repaint) in its left half."""
    image = Image.new("L", (width, height), 0)
    image.paste(255, (0, 0, width // 2, height))
    return encoded(image)


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def demo_report() -> WorkerReport:
    """Return what a worker without real weights publishes: the demo family runs and is the default."""
    return WorkerReport(
        device="cpu",
        has_cuda=False,
        models=tuple(
            ModelReport(
                model=spec.model,
                available=True,
                reason="comes with the project",
                precision=PrecisionReport(default=Precision.EXACT, reason="the best that fits this device", refused={}),
            )
            if spec.is_demo
            else ModelReport(
                model=spec.model,
                available=False,
                reason=f"{spec.title} cannot run: its weights are not on this machine. "
                f"Run `flux-image pull {spec.model}` on the worker's machine.",
            )
            for spec in CATALOG.values()
        ),
        defaults={
            kind: DefaultModel(model=model, reason="no CUDA device here") for kind, model in DEFAULT_DEMO_MODELS.items()
        },
    )


def job_image(
    path: str, data: bytes, index: int = 0, seed: int = 1, generator: Generator = Generator.LOCAL
) -> JobImage:
    """Return the record of a PNG that is stored under ``path``."""
    width, height = decoded(data).size
    return JobImage(
        id=new_image_id(),
        index=index,
        seed=seed,
        width=width,
        height=height,
        path=path,
        content_type="image/png",
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        generator=generator,
    )

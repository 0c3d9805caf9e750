"""The real worker with quick pictures and armed faults: ``celery -A tests.chaos.worker_root worker``.

Everything is the product's own (Celery, the prefork child, runner, saver, lease, SQL, durable files) except the
model. The faults sit in subclasses of the product's parts and in the stand-in for the model.
"""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from shared.broker.app import make_celery
from shared.clock import Clock
from shared.db.claims import ClaimRepository
from shared.db.engine import Database
from shared.domain.job import Job
from shared.domain.precision import Precision
from shared.domain.report import WorkerReport
from shared.domain.status import Phase
from shared.settings import WorkerSettings
from shared.storage.local import LocalMediaStorage
from tests.chaos.clock import jumping_clock
from tests.chaos.points import Points
from tests.factories import demo_report
from worker.build import GpuWorker
from worker.generators.interface import GenerationContext, ImageGeneratorInterface, SilentContext
from worker.tasks import WorkerProcess

STEP_SECONDS = 0.01
NOISE = "noise"
"""A prompt that gives pixels that do not compress, so that the file is about as long as the pixels."""

POISON = "poison"
"""A prompt that kills its worker, every time."""

settings = WorkerSettings()
points = Points(settings.data_dir)


class QuickGenerator(ImageGeneratorInterface):
    """One colour per seed, one pause per step; the boundaries at which a fault may strike are those of the real one."""

    def __init__(self) -> None:
        self._loaded: str | None = None

    def warm(self, model: str, precision: Precision = Precision.EXACT) -> None:
        self._loaded = model

    def resident(self) -> frozenset[str]:
        return frozenset({self._loaded} if self._loaded else ())

    def generate(self, prompt: str, *, context: GenerationContext | None = None, **options: Any) -> list[Image.Image]:
        context = context or SilentContext()  # a self-test has no job
        context.on_phase(Phase.LOADING)
        points.reach("loading", prompt)
        self._loaded = options["model"]
        context.on_phase(Phase.ENCODING)
        for index in range(options.get("num_images", 1)):
            context.on_phase(Phase.DENOISING)
            for step in range(options["num_inference_steps"]):
                threading.Event().wait(STEP_SECONDS)
                points.reach("denoising", prompt)
                if prompt == POISON:
                    os.kill(os.getpid(), signal.SIGKILL)
                context.on_step(step + 1, options["num_inference_steps"])
            context.on_phase(Phase.DECODING)
            points.reach("decoding", prompt)
            context.on_image(index, _picture(prompt, options["seed"] + index, options["width"], options["height"]))
        return []


class FaultyClaims(ClaimRepository):
    """Reaches a point on either side of every commit that matters."""

    def claim(self, *arguments: Any, **named: Any) -> Job | None:
        points.reach("before claim")
        job = super().claim(*arguments, **named)
        if job is not None:
            points.reach("claimed", job.params.prompt)
        return job

    def succeed(self, *arguments: Any, **named: Any) -> bool:
        points.reach("before commit")
        published = super().succeed(*arguments, **named)
        points.reach("committed")
        return published


class FaultyStorage(LocalMediaStorage):
    """Reaches a point before a file is written, while it is, and once it has its name."""

    def put(self, key: str, data: bytes) -> None:
        points.reach("before file")
        if points.is_armed("half file"):
            path = settings.media_dir / key
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / f".{path.name}-half.tmp").write_bytes(data[: len(data) // 2])
            points.reach("half file")
        super().put(key, data)
        points.reach("file written")


def make_generator() -> tuple[ImageGeneratorInterface, WorkerReport]:
    return QuickGenerator(), demo_report()


def make_claims(database: Database, clock: Clock) -> ClaimRepository:
    return FaultyClaims(database, clock)


def make_storage(root: Path) -> LocalMediaStorage:
    return FaultyStorage(root)


def _picture(prompt: str, seed: int, width: int, height: int) -> Image.Image:
    if prompt == NOISE:
        return Image.frombytes("RGB", (width, height), os.urandom(width * height * 3))
    return Image.new("RGB", (width, height), (seed % 256, seed // 256 % 256, 128))


app = make_celery(settings.resolved_redis_url)
WorkerProcess(
    settings,
    make_generator,
    make_worker=partial(
        GpuWorker, clock=jumping_clock(settings.data_dir), make_claims=make_claims, make_storage=make_storage
    ),
).install(app)

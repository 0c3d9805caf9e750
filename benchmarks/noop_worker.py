"""The real worker around a model that makes nothing: ``celery -A benchmarks.noop_worker worker -Q gpu``.

Claim, lease, phases, saver, publishing commit and doorbell are the product's; only pictures are missing, since the
peers of the comparison make none either.
"""

from __future__ import annotations

from typing import Unpack

from PIL import Image

from shared.broker.app import make_celery
from shared.domain.params import JobKind
from shared.domain.precision import Precision
from shared.domain.report import DefaultModel, WorkerReport
from shared.settings import WorkerSettings
from worker.generators.interface import GenerationContext, GenerationOptions, ImageGeneratorInterface
from worker.tasks import WorkerProcess


class NoopGenerator(ImageGeneratorInterface):
    """Returns at once."""

    def generate(
        self,
        prompt: str,  # noqa: ARG002
        *,
        context: GenerationContext | None = None,  # noqa: ARG002
        **options: Unpack[GenerationOptions],  # noqa: ARG002
    ) -> list[Image.Image]:
        """Make nothing."""
        return []

    def warm(self, model: str, precision: Precision = Precision.EXACT) -> None:
        """Load nothing."""


def _make_generator() -> tuple[ImageGeneratorInterface, WorkerReport]:
    defaults = {kind: DefaultModel(model="demo", reason="benchmark") for kind in JobKind}
    return NoopGenerator(), WorkerReport(device="none", models=(), defaults=defaults)


settings = WorkerSettings()
app = make_celery(settings.resolved_redis_url)
WorkerProcess(settings, _make_generator).install(app)

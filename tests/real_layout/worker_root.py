"""The real worker on weights in the real layout: ``celery -A tests.real_layout.worker_root worker``.

All of it is the product's own, with three things told from outside: it computes in bfloat16, as on a card; it is told
of a host with room for whole models, since the planner knows the published sizes and not these truncated ones; and
the latents of every step are written to ``latents`` in the data directory.
"""

from __future__ import annotations

from dataclasses import replace

from shared.broker.app import make_celery
from shared.domain.precision import Precision
from shared.domain.report import ModelReport, PrecisionReport, WorkerReport
from shared.settings import WorkerSettings
from tests.factories import demo_report
from tests.real_layout.jobs import JOBS
from worker.generators.interface import ImageGeneratorInterface
from worker.tasks import WorkerProcess

ROOM_FOR_WHOLE_MODELS = 256 * 2**30

settings = WorkerSettings()


def make_generator() -> tuple[ImageGeneratorInterface, WorkerReport]:
    import torch

    from tests.real_layout.steps import record_steps
    from worker.generators.local import LocalGenerator
    from worker.pipelines.device import pick_device
    from worker.pipelines.store import PipelineStore
    from worker.pipelines.weights import Weights

    device = replace(pick_device("cpu"), dtype=torch.bfloat16)
    record_steps(settings.data_dir / "latents")
    return LocalGenerator(PipelineStore(Weights(), device, host_bytes=ROOM_FOR_WHOLE_MODELS)), report()


def report() -> WorkerReport:
    """Say that the two models run here."""
    exact = PrecisionReport(default=Precision.EXACT, reason="asked for by the tests", refused={})
    here = {
        job.model: ModelReport(model=job.model, available=True, reason="pulled by the tests", precision=exact)
        for job in JOBS
    }
    demo = demo_report()
    return demo.model_copy(update={"models": tuple(here.get(known.model, known) for known in demo.models)})


app = make_celery(settings.resolved_redis_url)
WorkerProcess(settings, make_generator).install(app)

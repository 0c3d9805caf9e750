"""The Celery app of the GPU worker: ``celery -A worker.app worker --queues gpu``."""

from __future__ import annotations

from shared.broker.app import make_celery
from shared.settings import WorkerSettings
from worker.build import make_local_generator
from worker.tasks import WorkerProcess

settings = WorkerSettings()
app = make_celery(settings.resolved_redis_url)
WorkerProcess(settings, make_local_generator).install(app)

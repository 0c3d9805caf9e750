"""The product's worker, but for a shorter pause between two tries of an engine that does not start."""

from functools import partial

from shared.broker.app import make_celery
from shared.settings import WorkerSettings
from worker.build import GpuWorker, make_local_generator
from worker.tasks import WorkerProcess

settings = WorkerSettings()
app = make_celery(settings.resolved_redis_url)
WorkerProcess(settings, make_local_generator, make_worker=partial(GpuWorker, retry_seconds=0.5)).install(app)

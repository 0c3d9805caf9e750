"""The Celery app of the remote lane: ``celery -A worker.remote_app worker --queues remote``."""

from __future__ import annotations

from shared.broker.app import make_celery
from shared.domain.params import MAX_IMAGES
from shared.settings import OutsideSettings, WorkerSettings
from worker.remote_process import RemoteProcess

settings, outside = WorkerSettings(), OutsideSettings()
app = make_celery(settings.resolved_redis_url)
app.conf.worker_concurrency = outside.remote_concurrency
# A backstop above the deadlines of all images of a job; every call has its own.
app.conf.task_time_limit = app.conf.task_time_limit + MAX_IMAGES * outside.remote_call_seconds
RemoteProcess(settings, outside).install(app)

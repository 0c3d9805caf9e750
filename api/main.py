"""The application factory: ``uvicorn --factory api.main:create_app``. No work is done at import."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import redis
from fastapi import FastAPI

from api.background import running
from api.deps import Services
from api.errors import install_error_handlers
from api.front import install_front
from api.openapi import document_limits
from api.routes import guide, health, images, jobs, models, previews, queue, root, submit
from api.services.availability import Availability
from api.services.changes import ChangeListener
from api.services.generators import GeneratorService
from api.services.grid import GridService
from api.services.health import HealthService
from api.services.models import ModelService
from api.services.queries import JobQueries
from api.services.queue import QueueService
from api.services.reconciler import Reconciler
from api.services.room import Room
from api.services.silent_workers import SilentWorkers
from api.services.stranded import StrandedLanes
from api.services.submission import SubmissionService
from api.services.sweeper import Sweeper
from api.services.uploads import UploadReader
from api.services.waiting import JobWatcher
from api.version import VERSION
from shared.broker.app import make_ringing_celery
from shared.broker.publish import Doorbell
from shared.broker.urls import redis_url
from shared.channel.previews import PreviewChannel
from shared.channel.progress import ProgressChannel
from shared.clock import Clock, utc_now
from shared.db.engine import open_database
from shared.db.jobs import JobRepository
from shared.db.migrate import check_schema
from shared.db.queue import QueueRepository
from shared.db.rescues import RescueRepository
from shared.db.rings import RingRepository
from shared.db.stranded import StrandedRepository
from shared.db.workers import WorkerRepository
from shared.logging import configure_logging
from shared.settings import ApiSettings, OutsideSettings
from shared.storage.local import LocalMediaStorage


def create_app(
    settings: ApiSettings | None = None, outside: OutsideSettings | None = None, clock: Clock = utc_now
) -> FastAPI:
    """Return the application; connections are opened when it starts and closed when it stops."""
    settings, outside = settings or ApiSettings(), outside or OutsideSettings()
    app = FastAPI(
        title="FLUX Image API",
        version=VERSION,
        description="Text to image, Kontext editing and Fill behind a durable job queue.",
        lifespan=_lifespan(settings, outside, clock),
        form_limits={"max_files": 2, "max_fields": 32, "max_part_size": 65_536},
        docs_url=None,
        redoc_url=None,
    )
    install_front(app, settings)
    install_error_handlers(app)
    app.include_router(submit.form_router)
    for routes in (submit, jobs, previews, queue, images, models, health, guide, root):
        app.include_router(routes.router)
    document_limits(app, settings)
    return app


def _lifespan(
    settings: ApiSettings, outside: OutsideSettings, clock: Clock
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        configure_logging(settings.log_level, as_json=settings.log_json)
        database = open_database(settings.resolved_database_url)
        check_schema(database)
        channel = ProgressChannel(settings.resolved_redis_url)
        previews = PreviewChannel(settings.resolved_redis_url)
        broker = redis.Redis.from_url(redis_url(settings.resolved_redis_url), socket_timeout=2)
        doorbell = Doorbell(make_ringing_celery(settings.resolved_redis_url))
        repository, workers = JobRepository(database, clock), WorkerRepository(database, clock)
        storage = LocalMediaStorage(settings.media_dir)
        room = Room(storage, settings.min_free_bytes)
        queue_repository, queries = QueueRepository(database, clock), JobQueries(repository, channel, storage)
        model_service, watcher = ModelService(workers), JobWatcher(repository)
        generators = GeneratorService(model_service, Availability(workers, queue_repository, outside), outside)
        app.state.services = Services(
            settings=settings,
            submission=SubmissionService(
                repository, generators, storage, room, doorbell, settings.max_queued_jobs, clock
            ),
            uploads=UploadReader(settings.max_image_pixels),
            queries=queries,
            queue=QueueService(queue_repository, queries, doorbell),
            watcher=watcher,
            models=model_service,
            generators=generators,
            grid=GridService(storage),
            health=HealthService(database, channel, workers, room, clock=clock, uses_network=outside.uses_network),
            storage=storage,
            previews=previews,
        )
        reconciler = Reconciler(
            SilentWorkers(RescueRepository(database, clock), workers, settings.gpu_lock_path),
            queue_repository,
            RingRepository(database, clock),
            StrandedLanes(StrandedRepository(database, clock), workers, doorbell, clock),
            broker,
            doorbell,
            settings.reconcile_interval_seconds,
        )
        sweeper = Sweeper(database, storage, clock)
        listener = ChangeListener(settings.resolved_redis_url, watcher.look_soon)
        try:
            async with running((watcher, listener, reconciler, sweeper)):
                yield
        finally:
            doorbell.close()
            channel.close()
            previews.close()
            broker.close()
            database.dispose()

    return lifespan

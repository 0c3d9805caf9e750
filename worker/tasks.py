"""The three doorbell tasks, and the life of the prefork child that answers them."""

from __future__ import annotations

import importlib
import time
from typing import Any, Final

import structlog
from celery import Celery, signals

from shared.broker.names import TASKS
from shared.db.engine import open_database
from shared.db.migrate import SchemaMismatch, check_schema
from shared.domain.errors import ServiceError
from shared.logging import configure_logging
from shared.settings import WorkerSettings
from worker.build import GpuWorker, MakeGenerator
from worker.shutdown import Shutdown

log = structlog.get_logger(__name__)

_RESTART_PAUSE_SECONDS: Final = 2.0


class WorkerProcess:
    """Binds one GPU worker to Celery's parent and child processes."""

    def __init__(self, settings: WorkerSettings, make_generator: MakeGenerator) -> None:
        self._settings = settings
        self._make_generator = make_generator
        self._shutdown = Shutdown(settings.shutdown_grace_seconds)
        self._worker: GpuWorker | None = None

    def install(self, app: Celery) -> None:
        """Register tasks and signal handlers on ``app``."""
        for name in TASKS.values():
            app.task(name=name)(self._answer)
        # The child never sees SIGTERM, so the parent passes it on through shared memory.
        signals.worker_shutting_down.connect(self._on_shutdown, weak=False)
        signals.worker_init.connect(self._on_parent_start, weak=False)
        signals.worker_process_init.connect(self._on_child_start, weak=False)
        signals.worker_process_shutdown.connect(self._on_child_end, weak=False)
        signals.setup_logging.connect(self._on_logging, weak=False)

    def _answer(self, _job_id: str) -> str:
        """Run the best queued job, which is nearly always the one that rang."""
        if self._worker is None:
            raise RuntimeError("the GPU worker is not started in this process")
        return self._worker.run_next()

    def _on_parent_start(self, **_: Any) -> None:
        # Celery logs and swallows errors of signal handlers; SystemExit is the one that ends the process.
        try:
            self._check_start()
        except (ServiceError, SchemaMismatch) as error:
            raise SystemExit(f"The worker cannot start: {error}") from error

    def _on_child_start(self, **_: Any) -> None:
        worker = GpuWorker(self._settings, self._make_generator, self._shutdown)
        try:
            worker.start()
        except Exception as error:  # a child without a worker must not answer doorbells
            log.exception("the GPU worker did not start", action="start_failed")
            time.sleep(_RESTART_PAUSE_SECONDS)
            raise SystemExit(1) from error
        self._worker = worker

    def _on_child_end(self, **_: Any) -> None:
        if self._worker is not None:
            self._worker.close()

    def _check_start(self) -> None:
        """Find what no respawn can mend before there is a child, and import torch once for all children."""
        # Imported before the fork, a respawned child is ready seconds earlier. No CUDA call is made here.
        selection = importlib.import_module("worker.pipelines.selection")
        importlib.import_module("worker.generators.flux_local")
        selection.check_settings(self._settings)
        database = open_database(self._settings.resolved_database_url)
        check_schema(database)
        database.dispose()

    def _on_shutdown(self, **_: Any) -> None:
        grace = self._settings.shutdown_grace_seconds
        log.info("shutting down: the running job ends within the grace time or goes back", grace_seconds=grace)
        self._shutdown.ask()

    def _on_logging(self, **_: Any) -> None:
        configure_logging(self._settings.log_level, as_json=self._settings.log_json)

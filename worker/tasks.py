"""The three doorbell tasks, and the life of the prefork children that answer them, in either lane.

The parent imports nothing of the GPU stack: bitsandbytes, torchao and diffusers ask for the card when they are
imported, and a process that used CUDA before a fork leaves its children none (``torch.cuda.is_available``'s docstring).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog
from celery import Celery, signals

from shared.broker.names import TASKS
from shared.db.engine import open_database
from shared.db.migrate import SchemaMismatch, check_schema
from shared.domain.errors import ServiceError
from shared.logging import configure_logging
from shared.settings import WorkerSettings
from worker.build import GpuWorker, MakeGenerator
from worker.child_watch import ChildWatch
from worker.engine_start import EngineFailed
from worker.pipelines.wanted import check_settings
from worker.shutdown import Shutdown

log = structlog.get_logger(__name__)

_RESTART_PAUSE_SECONDS: Final = 2.0


MakeGpuWorker = Callable[[WorkerSettings, MakeGenerator, Shutdown], GpuWorker]


class LaneWorker(Protocol):
    """What a prefork child holds: made after the fork, started once."""

    def start(self) -> None:
        """Get ready for jobs."""

    def run_next(self) -> str:
        """Run the best queued job of the lane and return a line about it."""

    def close(self) -> None:
        """End in good order."""


class LaneProcess(ABC):
    """Binds the workers of one lane to Celery's parent and child processes."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._shutdown = Shutdown(settings.shutdown_grace_seconds)
        self._worker: LaneWorker | None = None

    def install(self, app: Celery) -> None:
        """Register tasks and signal handlers on ``app``."""
        for name in TASKS.values():
            app.task(name=name)(self._answer)
        app.steps["worker"].add(ChildWatch)
        # The child never sees SIGTERM, so the parent passes it on through shared memory.
        signals.worker_shutting_down.connect(self._on_shutdown, weak=False)
        signals.worker_init.connect(self._on_parent_start, weak=False)
        signals.worker_process_init.connect(self._on_child_start, weak=False)
        signals.worker_process_shutdown.connect(self._on_child_end, weak=False)
        signals.setup_logging.connect(self._on_logging, weak=False)

    def _answer(self, _job_id: str) -> str:
        """Run the best queued job, which is nearly always the one that rang."""
        if self._worker is None:
            raise RuntimeError("the worker is not started in this process")
        return self._worker.run_next()

    def _on_parent_start(self, **_: Any) -> None:
        self._on_logging()  # Celery asks for that later, and what is imported here has much to say
        # Celery logs and swallows errors of signal handlers; SystemExit is the one that ends the process.
        try:
            self._check_start()
        except (ServiceError, SchemaMismatch) as error:
            raise SystemExit(f"The worker cannot start: {error}") from error

    def _on_child_start(self, **_: Any) -> None:
        try:
            worker = self._make_worker()
            worker.start()
        except EngineFailed as error:  # said, and waited for, in the worker's row
            raise SystemExit(1) from error
        except Exception as error:  # a child without a worker must not answer doorbells
            log.exception("the worker did not start", action="start_failed")
            time.sleep(_RESTART_PAUSE_SECONDS)
            raise SystemExit(1) from error
        self._worker = worker

    def _on_child_end(self, **_: Any) -> None:
        if self._worker is not None:
            self._worker.close()

    @abstractmethod
    def _make_worker(self) -> LaneWorker:
        """Return a new worker; called in the child."""

    @abstractmethod
    def _check_start(self) -> None:
        """Find what no respawn can mend before there is a child."""

    def _on_shutdown(self, **_: Any) -> None:
        self._shutdown.ask()
        grace = self._settings.shutdown_grace_seconds
        log.info("shutting down: the running job ends within the grace time or goes back", grace_seconds=grace)

    def _on_logging(self, **_: Any) -> None:
        configure_logging(self._settings.log_level, as_json=self._settings.log_json)


class WorkerProcess(LaneProcess):
    """The GPU's lane: one child, which owns the card."""

    def __init__(
        self,
        settings: WorkerSettings,
        make_generator: MakeGenerator,
        *,
        make_worker: MakeGpuWorker = GpuWorker,
    ) -> None:
        super().__init__(settings)
        self._make_generator = make_generator
        self._make_gpu_worker = make_worker

    def _make_worker(self) -> LaneWorker:
        return self._make_gpu_worker(self._settings, self._make_generator, self._shutdown)

    def _check_start(self) -> None:
        check_settings(self._settings)
        check_database(self._settings)


def check_database(settings: WorkerSettings) -> None:
    """Return if the database is at this version's schema.

    Raises:
      SchemaMismatch: it is not.
    """
    database = open_database(settings.resolved_database_url)
    check_schema(database)
    database.dispose()

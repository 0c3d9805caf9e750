"""How an attempt ends, and that its end gets into the row whatever the database does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from shared.db.claims import ClaimRepository
from shared.domain.errors import ServiceError, StorageFailed
from shared.domain.job import JobError, JobImage, Lane
from shared.domain.params import JobKind
from shared.domain.route import Route, divert_warning
from shared.domain.status import JobStatus
from worker.cancellation import JobInterrupted, StopReason
from worker.retries import may_divert, retry_pause
from worker.run import JobRun
from worker.shutdown import Shutdown

T = TypeVar("T")
Ring = Callable[[str, JobKind, Lane], object]
"""Tells the workers of a lane that a job waits there; a ring that is lost is no error."""
log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0


class NotRecorded(Exception):
    """The database took no writes until this process had to end; the next worker rescues the job."""


class Outcomes:
    """Turns whatever a piece of a run raises into the one end of its attempt, and says in a word which."""

    def __init__(
        self,
        claims: ClaimRepository,
        max_attempts: int,
        shutdown: Shutdown,
        on_storage_failed: Callable[[], None],
        ring: Ring,
    ) -> None:
        self._claims = claims
        self._max_attempts = max_attempts
        self._shutdown = shutdown
        self._on_storage_failed = on_storage_failed
        self._ring = ring

    def conclude(self, run: JobRun, work: Callable[[], str | None]) -> str | None:
        """Do ``work`` and return what it returns; if it raises, end the attempt accordingly."""
        try:
            return self._conclude(run, work)
        except (NotRecorded, SQLAlchemyError) as error:
            log.error("the end of this attempt is not recorded", action="not_recorded", error=str(error))
            return "not recorded"

    def publish(self, run: JobRun) -> str:
        """Wait for the files and publish them all at once; the last leg ends the job, another one hands it over."""
        images, used = run.saved_images(), run.accelerations
        if not run.job.route.is_last:
            return self._hand_over(run, run.job.route.advanced(), images)
        if self.record(lambda: self._claims.succeed(run.claim, images, run.timings(), run.warnings, used)):
            return JobStatus.SUCCEEDED.value
        return self._give_way(run)

    def record(self, write: Callable[[], T]) -> T:
        """Try ``write`` until the database answers; fencing makes a late answer harmless.

        Raises:
          NotRecorded: it does not answer, and this process has to end.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return write()
            except OperationalError as error:
                if self._shutdown.is_due():
                    raise NotRecorded(str(error)) from error
                log.warning("database takes no writes; trying again", action="record_failed", error=str(error))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _conclude(self, run: JobRun, work: Callable[[], str | None]) -> str | None:
        try:
            return work()
        except JobInterrupted as interruption:
            return self._stop(run, interruption.reason)
        except ServiceError as error:
            if isinstance(error, StorageFailed):
                self._on_storage_failed()
            return self._fail(run, _to_job_error(error))
        except NotRecorded:
            raise
        except Exception as error:  # whatever a model throws must end this job, not the worker
            log.exception("generator failed", action="generator_failed")
            message = f"{type(error).__name__}: {error}"
            retryable = isinstance(error, SQLAlchemyError)  # no fault of the job
            return self._fail(run, JobError(code="internal_error", message=message, retryable=retryable))

    def _fail(self, run: JobRun, error: JobError) -> str:
        pause = retry_pause(run.job, error, self._max_attempts)
        if may_divert(run.job, error, is_final=pause is None):
            images = run.finished_images()
            if diverted := run.job.route.diverted(len(images)):
                run.warn(divert_warning(run.job.route, diverted, error.message))
                return self._hand_over(run, diverted, images, error)
        run.discard_images()
        if pause is not None and self.record(lambda: self._claims.retry(run.claim, error, pause)):
            return f"{error.code}, tried again in {pause.total_seconds():.0f} s"
        if pause is None and self.record(lambda: self._claims.fail(run.claim, error, run.timings())):
            return f"{JobStatus.FAILED.value} ({error.code})"
        return self._give_way(run)

    def _hand_over(self, run: JobRun, route: Route, images: list[JobImage], error: JobError | None = None) -> str:
        handed = self.record(
            lambda: self._claims.hand_over(
                run.claim,
                route,
                run.timings(),
                run.warnings,
                images=images,
                accelerations=run.accelerations,
                enhancement=run.enhancement,
                error=error,
            )
        )
        if not handed:
            return self._give_way(run)
        self._ring(run.job.id, run.job.kind, route.current.lane)
        why = f" ({error.code})" if error else ""
        return f"handed over to {route.current.generator.value}{why}"

    def _stop(self, run: JobRun, reason: StopReason) -> str:
        run.discard_images()
        if reason is StopReason.SHUTDOWN and self.record(lambda: self._claims.release(run.claim)):
            return "released"
        return self._give_way(run)

    def _give_way(self, run: JobRun) -> str:
        """A write was refused: somebody asked for a cancel, or another worker holds the job by now."""
        run.discard_images()
        if self.record(lambda: self._claims.cancel(run.claim, run.timings())):
            return JobStatus.CANCELLED.value
        log.warning("claim lost", action="fenced")
        return "fenced"


def _to_job_error(error: ServiceError) -> JobError:
    return JobError(
        code=error.code,
        message=error.message,
        retryable=error.retryable,
        retry_after_seconds=error.retry_after_seconds,
    )

"""What is still done when this process has to end at once: put its jobs back, with the reason, and die."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from shared.db.claims import ClaimRepository
from shared.domain.errors import DeviceLost, WorkerHung
from shared.domain.job import Claim, JobError
from shared.domain.status import Phase
from worker.saver import Saver
from worker.watchdog import Watch

log = structlog.get_logger(__name__)


def end_process(reason: str) -> None:
    """Write where every thread is and die; Celery's parent starts a new child.

    SIGKILL, because neither a hang nor a lost device lets a process end in good order.
    """
    log.critical("ending this process", action="end_process", reason=reason, pid=os.getpid())
    faulthandler.dump_traceback(sys.stderr)
    os.kill(os.getpid(), signal.SIGKILL)


class Emergency:
    """The job at fault is counted as crashed; the other one is saved if possible, else handed back uncounted."""

    def __init__(
        self, claims: ClaimRepository, saver: Saver, saving_seconds: float, end_process: Callable[[str], None]
    ) -> None:
        self._claims = claims
        self._saver = saver
        self._saving_seconds = saving_seconds
        self._end_process = end_process

    def on_hang(self, hung: Watch, others: Iterable[Watch]) -> None:
        """End the process because ``hung`` went over its budget; called from the watchdog's thread."""
        if hung.what != Phase.SAVING:
            self._saver.wait(self._saving_seconds)
        message = f"There was no progress in the phase {hung.what} for {hung.seconds:g} s."
        error = JobError(code=WorkerHung.code, message=message, retryable=True)
        self._leave(hung.claim, error, {watch.claim for watch in others} - {hung.claim})

    def on_device_lost(self, claim: Claim | None, lost: DeviceLost) -> None:
        """End the process because its device is of no more use to it."""
        self._saver.wait(self._saving_seconds)
        self._leave(claim, JobError(code=lost.code, message=lost.message, retryable=True), ())

    def _leave(self, claim: Claim | None, error: JobError, others: Iterable[Claim | None]) -> None:
        try:
            if claim is not None:
                self._claims.crash(claim, error)
            for other in filter(None, others):
                self._claims.release(other)
        except SQLAlchemyError as failure:  # the next worker rescues them, without the reason
            log.error("jobs not put back", action="crash_not_recorded", error=str(failure))
        self._end_process(error.message)

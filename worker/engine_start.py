"""A worker whose engine does not start stays, says why, and leaves the next try to a fresh process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from shared.clock import Clock
from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from worker.presence import Presence
from worker.shutdown import Shutdown

log = structlog.get_logger(__name__)

T = TypeVar("T")

RETRY_SECONDS: Final = 60.0
"""How long a worker whose engine does not start says why, before a fresh process tries again."""

_OURS: Final = ("shared", "worker")
"""Packages whose errors are sentences; the kinds of others say what their words leave out."""

_NO_WORD: Final = "the start before this one ended without a word; the worker's log may say more (tried again at once)"


class EngineFailed(Exception):
    """The engine cannot be made in this process. Another may have better luck: nothing of a failed start is kept."""


def make_engine(make: Callable[[], T], presence: Presence, shutdown: Shutdown, retry_seconds: float) -> T:
    """Return what ``make`` returns.

    A failed start leaves modules half imported and CUDA's error in this process, so that only a fresh one sees a
    library, a driver or a card that has come meanwhile.

    Raises:
      EngineFailed: ``make`` failed, in whatever way, and the worker's row has said so for ``retry_seconds``, or until
        the worker was asked to end.
    """
    try:
        return make()
    except Exception as error:  # an import, the driver, a setting: the owner needs the words in every case
        log.exception("the engine does not start", action="engine_failed", retry_seconds=retry_seconds)
        reason = in_words(error)
        presence.become(WorkerState.UNHEALTHY, f"{reason} (tried again every {retry_seconds:g} s)")
        if shutdown.wait(retry_seconds):
            presence.leave()
        raise EngineFailed(reason) from error


def trouble_before(workers: WorkerRepository, lane: Lane, clock: Clock) -> str | None:
    """Return why the worker before this one did not start, if that was just now; it holds until this one has."""
    last = workers.latest(lane)
    if last is None or last.is_gone(clock()):
        return None
    return _NO_WORD if last.state is WorkerState.STARTING else last.trouble


def in_words(error: Exception) -> str:
    """Return why an engine does not start, for its owner to read: the error's first line, and its kind if not ours."""
    first_line = str(error).strip().partition("\n")[0]
    if type(error).__module__.partition(".")[0] in _OURS:
        return first_line
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__

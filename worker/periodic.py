"""A thread that does one small thing again and again while a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

log = structlog.get_logger(__name__)

_RETRY_SECONDS: Final = 0.5
"""Well within a round of the reconciler, which gives up on a worker that stays silent for that long."""


class Periodic:
    """Calls ``action`` every ``interval_seconds`` until the block ends; after a database error, sooner."""

    def __init__(self, name: str, interval_seconds: float, action: Callable[[], None]) -> None:
        self._name = name
        self._interval = interval_seconds
        self._action = action
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pause = self._interval
        while not self._ended.wait(pause):
            pause = self._interval
            try:
                self._action()
            except SQLAlchemyError as error:
                log.warning("periodic action failed", action="periodic_failed", name=self._name, error=str(error))
                pause = min(self._interval, _RETRY_SECONDS)

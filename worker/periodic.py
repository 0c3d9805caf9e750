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

_SPACING_SECONDS: Final = 0.2
"""However often it is nudged, the action is done no sooner after the last time: many short jobs must not pay for it."""


class Periodic:
    """Calls ``action`` every ``interval_seconds`` until the block ends; after a database error, sooner."""

    def __init__(self, name: str, interval_seconds: float, action: Callable[[], None]) -> None:
        self._name = name
        self._interval = interval_seconds
        self._spacing = min(_SPACING_SECONDS, interval_seconds)
        self._action = action
        self._nudged = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._nudged.set()
        self._thread.join()

    def nudge(self) -> None:
        """Have the action done soon, without waiting for it; several nudges may be one."""
        self._nudged.set()

    def _run(self) -> None:
        pause = self._interval
        while True:
            self._nudged.wait(pause)
            if self._ended.is_set():
                return
            self._nudged.clear()
            pause = self._interval
            try:
                self._action()
            except SQLAlchemyError as error:
                log.warning("periodic action failed", action="periodic_failed", name=self._name, error=str(error))
                pause = min(self._interval, _RETRY_SECONDS)
            self._ended.wait(self._spacing)
            pause -= self._spacing

"""Named moments at which a process under test does what a test armed: die, freeze, wait, raise.

A test arms a point by writing a file; the first process that reaches the point takes the file away and obeys. So a
fault strikes exactly once, at exactly one moment, and the test sees from the missing file that it struck.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared.domain.errors import NumericError, OutOfMemory

KILL: Final = "kill"
FREEZE: Final = "freeze"
WAIT: Final = "wait"
OUT_OF_MEMORY: Final = "out of memory"
NOT_A_NUMBER: Final = "not a number"
DISK_FULL: Final = "disk full"
SURPRISE: Final = "surprise"


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # the signal is on its way


def _freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _raise(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


_ACTIONS: Final[dict[str, Callable[[], None]]] = {
    KILL: _kill,
    FREEZE: _freeze,
    OUT_OF_MEMORY: _raise(OutOfMemory("injected: the card is full")),
    NOT_A_NUMBER: _raise(NumericError("injected: not a number")),
    DISK_FULL: _raise(OSError(errno.ENOSPC, "injected: no space left")),
    SURPRISE: _raise(ValueError("injected: a surprise")),
}


class Points:
    """The armed points of one data directory, shared by the test and the processes that it tests."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "points"
        self._folder.mkdir(parents=True, exist_ok=True)

    def arm(self, point: str, action: str = KILL, prompt: str = "") -> None:
        """Have the next process at ``point`` do ``action``; with ``prompt``, only for a job of that prompt."""
        draft = self._folder / f".{point}"
        draft.write_text(f"{action}\n{prompt}")
        draft.rename(self._folder / point)

    def is_armed(self, point: str) -> bool:
        return (self._folder / point).exists()

    def release(self, point: str) -> None:
        """Let the thread go on that waits at ``point``."""
        self._waiting_at(point).unlink(missing_ok=True)

    def disarm_all(self) -> None:
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)

    def reach(self, point: str, prompt: str = "") -> None:
        """Do what was armed here, if anything was."""
        path = self._folder / point
        try:
            action, _, wanted = path.read_text().partition("\n")
            if wanted and wanted != prompt:
                return
            path.rename(self._waiting_at(point)) if action == WAIT else path.unlink()
        except FileNotFoundError:
            return
        if action == WAIT:
            self._wait(point)
        else:
            _ACTIONS[action]()

    def _wait(self, point: str) -> None:
        """Hold this thread only: the process lives, and gives signs of life."""
        while self._waiting_at(point).exists():
            time.sleep(0.01)

    def _waiting_at(self, point: str) -> Path:
        return self._folder / f"waiting at {point}"

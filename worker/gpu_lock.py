"""One process at a time owns the GPU. The kernel drops the lock when the holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

import structlog

log = structlog.get_logger(__name__)


class GpuLock:
    """An exclusive ``flock``; take it in the prefork child, since one taken before a fork outlives the child."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Wait until this process is the only owner, and write its pid into the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            log.warning("another worker owns the GPU; waiting for it", action="gpu_lock_wait", holder=file.read())
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        """Let the next process have it."""
        if self._file is not None:
            self._file.close()
            self._file = None

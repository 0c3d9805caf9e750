"""One process of the stack: started in its own session, tied to its parent's life, its output in a file."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_BACKOFF_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
_HEALTHY_SECONDS: Final = 60.0
"""A part that lived so long starts again without delay the next time it dies."""


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies, so that even a SIGKILL of it leaves no orphan."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@dataclass
class Part:
    """A supervised process."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    """A folder of the server's own: what lies in the caller's folder must not be imported or read as settings."""
    log_path: Path
    stop_seconds: float = 10.0
    """How long it may take to end after SIGTERM."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _started_at: float = field(default=0.0, init=False)
    _failures: int = field(default=0, init=False)
    _restart_at: float | None = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        """Process id while it lives."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process; SIGINT of the terminal does not reach it."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv,
                env=dict(self.env),
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._started_at = time.monotonic()
        self._restart_at = None

    def supervise(self) -> str | None:
        """Start the process again if it died, after a growing pause; return a line about it when it has just died."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is None:
            return None
        now = time.monotonic()
        if self._restart_at is None:
            if now - self._started_at > _HEALTHY_SECONDS:
                self._failures = 0
            pause = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS) - 1)]
            self._failures += 1
            self._restart_at = now + pause
            return f"{self.name} ended with code {code}; starting it again in {pause:g} s (log: {self.log_path})"
        if now >= self._restart_at:
            self.start()
        return None

    def stop(self) -> None:
        """End the process and everything in its session."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            print(f"{self.name} did not end in {self.stop_seconds:g} s; killing it", file=sys.stderr)
        self._kill_session(self._process.pid)
        self._process.wait()
        self._process = None

    @staticmethod
    def _kill_session(pid: int) -> None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            return

"""Keeps the parts of the stack alive, and stops them in the reverse of the order they were started."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final

from cli.host.part import Part

TICK_SECONDS: Final = 0.2


class Supervisor:
    """Owns the parts from ``start`` to ``stop``."""

    def __init__(self, parts: Sequence[Part], say: Callable[[str], None]) -> None:
        self.parts = parts
        self._say = say
        self._stopping = threading.Event()

    def listen_to_signals(self) -> None:
        """Make Ctrl+C and SIGTERM end ``watch``."""

        def on_signal(_signal: int, _frame: FrameType | None) -> None:
            self._stopping.set()

        signal.signal(signal.SIGINT, on_signal)
        signal.signal(signal.SIGTERM, on_signal)

    def start(self) -> None:
        """Start all parts."""
        for part in self.parts:
            part.start()

    def tick(self) -> bool:
        """Restart what died, pause a moment; ``False`` once a signal asked for the end."""
        for part in self.parts:
            if news := part.supervise():
                self._say(news)
        return not self._stopping.wait(TICK_SECONDS)

    def watch(self) -> None:
        """Supervise until a signal asks for the end."""
        while self.tick():
            continue

    def stop(self) -> None:
        """Stop all parts, the last started first."""
        for part in reversed(self.parts):
            part.stop()

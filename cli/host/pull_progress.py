"""How much of a download is here, in bytes of bytes: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

_LINE_EVERY_PERCENT: Final = 5
_UNITS: Final = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


class PullProgress:
    """Counts bytes from several threads; ``total`` is that of all files, ``here`` what was fetched or found."""

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self.total = total
        self.here = 0
        self._lock = threading.Lock()
        self._told_percent = 0
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console) if console.is_terminal else None
        self._task = self._bar.add_task(title, total=total) if self._bar else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, count: int) -> None:
        """``count`` more bytes are on the disk; fewer when it is negative."""
        with self._lock:
            self.here += count
            percent = 100 * self.here // max(1, self.total)
            tell = self._bar is None and percent >= self._told_percent + _LINE_EVERY_PERCENT
            if tell:
                self._told_percent = percent - percent % _LINE_EVERY_PERCENT
                print(f"{self._title}: {self} ({percent} %)", file=sys.stderr)
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)

    def say(self, message: str) -> None:
        """Write a line beside the bar."""
        if self._bar is not None:
            self._bar.console.print(message, markup=False)
        else:
            print(message, file=sys.stderr)

    def __str__(self) -> str:
        """Say how much is here, such as ``12.3 GB of 33.7 GB``."""
        return f"{amount(self.here)} of {amount(self.total)}"


def amount(count: int) -> str:
    """Return a number of bytes in words, in powers of ten as disks are sold."""
    for unit, size in _UNITS:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"

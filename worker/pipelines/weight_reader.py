"""Weight files from the disk into the kernel's page cache, ahead of their use.

Weights are mapped into memory, so that without this the copy to the card takes them off the disk page by page. Here
several threads read the files piece by piece in their order, and say how far they are. What is cached already is
counted without being read. Imports no torch.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import structlog

from shared.domain.report import LoadingReport
from shared.host_memory import available_bytes

log = structlog.get_logger(__name__)

THREADS: Final = 8
PIECE_BYTES: Final = 8 * 2**20
_REPORT_SECONDS: Final = 0.5
_PROBE_BYTES: Final = 1
_WINDOW_BYTES: Final = 128 * 2**10
"""What Linux reads ahead at once by default (``read_ahead_kb``)."""


Listener = Callable[[LoadingReport], None]
Piece = tuple[int, int, int]
"""File descriptor, offset and length in bytes."""


def nobody(_report: LoadingReport) -> None:
    """Listen to nothing."""


class WeightReader:
    """Reads for one model after another. ``listener`` hears of the progress, and ends the reading by raising."""

    def __init__(self, threads: int = THREADS) -> None:
        self._threads = threads
        self.listener: Listener = nobody

    def read(self, model: str, files: Sequence[Path]) -> None:
        """Return when the files are in the page cache; at once where the machine has no memory to keep them.

        ``listener`` is called in the caller's thread: at the start, every half second, and at the end.

        Raises:
          OSError: a file cannot be read.
        """
        paths = dict.fromkeys(path.resolve() for path in files)
        total = sum(path.stat().st_size for path in paths)
        if total > (available := available_bytes()):
            log.info("not read ahead: memory is short", action="read_ahead", bytes=total, available_bytes=available)
            return
        opened = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
        try:
            self._read(model, total, opened)
        finally:
            for file in opened:
                os.close(file)

    def _read(self, model: str, total: int, files: Sequence[int]) -> None:
        reading, started = _Reading(files), time.monotonic()
        threads = [threading.Thread(target=reading.run, name="weights", daemon=True) for _ in range(self._threads)]
        try:
            self.listener(_progress(model, 0, total, 0.0))
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_REPORT_SECONDS)
                    self.listener(_progress(model, reading.done, total, time.monotonic() - started))
        finally:
            reading.stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if reading.error is not None:
            raise reading.error
        self.listener(_progress(model, total, total, time.monotonic() - started))


class _Reading:
    """What the threads have in common: the pieces that are left, and the bytes that are done."""

    def __init__(self, files: Sequence[int]) -> None:
        self._pieces: Iterator[Piece] = _pieces(files)
        self._lock = threading.Lock()
        self.done = 0
        self.error: OSError | None = None

    def run(self) -> None:
        """Take the next piece until none is left; files are read in their order."""
        while (piece := self._take()) is not None:
            try:
                if not _is_cached(*piece):
                    _bring(*piece)
            except OSError as error:
                self.error = error
                self.stop()
                return
            with self._lock:
                self.done += piece[2]

    def stop(self) -> None:
        """Have every thread end after its piece."""
        with self._lock:
            self._pieces = iter(())

    def _take(self) -> Piece | None:
        with self._lock:
            return next(self._pieces, None)


def weight_files(part: Path, variant: str | None = None) -> list[Path]:
    """Return the safetensors files that diffusers reads of a component's folder, in their order."""
    return sorted(part.glob(f"*.{variant}*.safetensors" if variant else "*.safetensors"))


def _pieces(files: Sequence[int]) -> Iterator[Piece]:
    for file in files:
        size = os.fstat(file).st_size
        for start in range(0, size, PIECE_BYTES):
            yield file, start, min(PIECE_BYTES, size - start)


def _is_cached(file: int, start: int, length: int) -> bool:
    """Return whether the first and the last byte of a piece are in the page cache; no file system need know."""
    probe = bytearray(_PROBE_BYTES)
    try:
        return all(os.preadv(file, [probe], place, os.RWF_NOWAIT) for place in (start, start + length - 1))
    except OSError:  # BlockingIOError: it is not; EOPNOTSUPP: this file system cannot tell
        return False


def _bring(file: int, start: int, length: int) -> None:
    """Have the kernel read a piece into the page cache, and wait until it has; nothing is copied from there.

    One byte of each window is asked for, so that the wait is a real one, and so that file systems which ignore the
    advice read all the same.
    """
    os.posix_fadvise(file, start, length, os.POSIX_FADV_WILLNEED)
    probe = bytearray(_PROBE_BYTES)
    for place in (*range(start, start + length, _WINDOW_BYTES), start + length - 1):
        os.preadv(file, [probe], place)


def _progress(model: str, done: int, total: int, seconds: float) -> LoadingReport:
    left = seconds * (total - done) / done if done and seconds >= _REPORT_SECONDS else None
    return LoadingReport(
        model=model, done_bytes=done, total_bytes=total, seconds_left=None if left is None else round(left, 1)
    )

"""Weights that only pass over the card: two fixed buffers in turn, so that what is in flight has a known size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch

from worker.pipelines.cuda import Cuda, Stream

Copy = Callable[[torch.Tensor, torch.Tensor], None]
"""Copies a master to the card on the current stream: target, master."""

_ALIGNMENT: Final = 256


class PassingBuffers:
    """Two buffers of the card: the stream of copies fills one while the other is read.

    A buffer is filled anew only behind its readers, and read only behind its copies. Both belong to the stream of
    copies, which waits for the last readers when it closes: so whoever gets the memory next, be it another pass on
    another stream, comes after all of this one.
    """

    def __init__(self, cuda: Cuda, copies: Stream, size: int) -> None:
        self._cuda = cuda
        self._copies = copies
        with cuda.on(copies):
            self._buffers = [cuda.empty(size, dtype=torch.uint8) for _ in range(2)]
        self._filled: list[Any] = [cuda.event() for _ in range(2)]
        self._read: list[Any] = [cuda.event() for _ in range(2)]

    def fill(self, turn: int, masters: Sequence[torch.Tensor], copy: Copy) -> list[torch.Tensor]:
        """Start to bring weights into the buffer of a turn; return them as they will be there."""
        index, start, targets = turn % 2, 0, []
        self._copies.wait_event(self._read[index])
        with self._cuda.on(self._copies):
            for master in masters:
                place = self._buffers[index][start : start + master.nbytes]
                targets.append(place.view(master.dtype).view(master.shape))
                copy(targets[-1], master)
                start += _aligned(master.nbytes)
            self._filled[index].record()
        return targets

    def begin_reading(self, turn: int, reader: Stream) -> None:
        """Let a stream wait for a turn's weights."""
        reader.wait_event(self._filled[turn % 2])

    def end_reading(self, turn: int, reader: Stream) -> None:
        """Let the turn after the next have the buffer when the reader's work of now is done."""
        self._read[turn % 2].record(reader)

    def close(self) -> None:
        """Let whoever has the memory next come after the readers."""
        for event in self._read:
            self._copies.wait_event(event)


def passing_bytes(masters: Sequence[torch.Tensor]) -> int:
    """Return what one turn of these weights takes of a buffer."""
    return sum(_aligned(master.nbytes) for master in masters)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT

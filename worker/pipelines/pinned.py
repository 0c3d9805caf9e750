"""Locked ("pinned") host memory: packed copies of weights, the ring for those without one, and what to do without.

The system may refuse to lock memory at any size: under WSL2 limits of 0.5 to 4 GiB are reported, and after one refusal
others follow. So the ring, which helps everything else along, is taken first, in one piece; the first refusal of a
chunk ends the packing; and without even a ring, copies come from pageable memory while the caller waits.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog
import torch

from worker.pipelines.cuda import Cuda

log = structlog.get_logger(__name__)

CHUNK_BYTES: Final = 2**30
"""torch rounds each pinned allocation up to a power of two: weight by weight, FLUX would take half as much again."""

RING_BYTES: Final = 512 * 2**20
"""Two halves of 256 MiB."""

SMALLEST_RING_BYTES: Final = 8 * 2**20
_ALIGNMENT: Final = 256


def pinned_or_none(cuda: Cuda, size: int) -> torch.Tensor | None:
    """Return ``size`` locked bytes, or ``None`` where the system refuses; the log says what it said."""
    try:
        return cuda.pinned(size)
    except RuntimeError as error:  # out of memory, not supported, invalid: drivers differ in what they call it
        log.warning("pinned memory refused", action="pin_refused", bytes=size, error=str(error).splitlines()[0])
        return None


class PackedChunks:
    """Copies of tensors one behind the other in large buffers, up to a limit in bytes, or to the first refusal.

    A buffer is given back when all of its copies are released. ``allocate`` returns ``None`` when it refuses.
    """

    def __init__(self, most_bytes: int, allocate: Callable[[int], torch.Tensor | None]) -> None:
        self._left = most_bytes
        self._allocate = allocate
        self._chunk = torch.empty(0, dtype=torch.uint8)
        self._used = 0
        self._copies: Counter[int] = Counter()
        """By the address of their buffer."""
        self.bytes = 0
        """Of all buffers."""
        self.is_refused = False

    def copy_of(self, data: torch.Tensor) -> torch.Tensor | None:
        """Return an equal tensor inside a chunk, or ``None`` when there is no room for one."""
        if self._used + data.nbytes > self._chunk.nbytes and not self._extend(data.nbytes):
            return None
        place = self._chunk[self._used : self._used + data.nbytes]
        self._used += -(-data.nbytes // _ALIGNMENT) * _ALIGNMENT
        self._copies[_buffer(place).data_ptr()] += 1
        return place.view(data.dtype).view(data.shape).copy_(data)

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is one of the copies."""
        return _buffer(tensor).data_ptr() in self._copies

    def release(self, copy: torch.Tensor) -> None:
        """Forget a copy; a tensor that is none is left alone."""
        if not self.holds(copy):
            return
        buffer = _buffer(copy)
        address = buffer.data_ptr()
        self._copies[address] -= 1
        if self._copies[address] == 0:
            del self._copies[address]
            self._left += buffer.nbytes()
            self.bytes -= buffer.nbytes()
            if address == _buffer(self._chunk).data_ptr():
                self._chunk, self._used = torch.empty(0, dtype=torch.uint8), 0

    def _extend(self, needed: int) -> bool:
        size = max(CHUNK_BYTES, 1 << (needed - 1).bit_length())
        if self.is_refused or size > self._left:
            return False
        chunk = self._allocate(size)
        if chunk is None:
            self.is_refused = True
            return False
        self._chunk, self._used = chunk, 0
        self._left -= size
        self.bytes += size
        return True


class PinnedRing:
    """Two pinned halves in turn: while one is copied to the card, the other is filled from pageable memory."""

    def __init__(self, cuda: Cuda, most_bytes: int) -> None:
        self._cuda = cuda
        buffer = _largest(cuda, most_bytes)
        self.bytes = 0 if buffer is None else buffer.nbytes
        """0 where the system locks nothing."""
        halves = [] if buffer is None else [(half, cuda.event()) for half in buffer.chunk(2)]
        self._halves = itertools.cycle(halves)

    def copy(self, target: torch.Tensor, master: torch.Tensor) -> None:
        """Copy on the current stream; blocks the caller while the host's part is done."""
        if self.bytes == 0:
            self._cuda.copy(target, master, wait=True)
            return
        most = self.bytes // 2
        source, destination = (tensor.contiguous().view(-1).view(torch.uint8) for tensor in (master, target))
        for start in range(0, source.nbytes, most):
            buffer, left = next(self._halves)
            left.synchronize()
            piece = buffer[: min(most, source.nbytes - start)]
            piece.copy_(source[start : start + piece.nbytes])
            self._cuda.copy(destination[start : start + piece.nbytes], piece)
            left.record()


def _largest(cuda: Cuda, most_bytes: int) -> torch.Tensor | None:
    """Return the largest buffer of a ring that fits and that the system locks."""
    size = RING_BYTES
    while size >= SMALLEST_RING_BYTES:
        if size <= most_bytes and (buffer := pinned_or_none(cuda, size)) is not None:
            return buffer
        size //= 2
    return None


def _buffer(tensor: torch.Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()

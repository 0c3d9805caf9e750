"""A card's memory: masters packed into pinned chunks, copies on a stream of their own. Beside ``device``, the only
module that calls ``torch.cuda``."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch

from worker.pipelines.device_memory import Block, Weight

CHUNK_BYTES: Final = 2**30
"""torch rounds each pinned allocation up to a power of two: weight by weight, FLUX would take half as much again."""

RING_HALF_BYTES: Final = 256 * 2**20
_ALIGNMENT: Final = 256


class CudaMemory:
    """Implements ``DeviceMemory`` for one card."""

    def __init__(self, device: torch.device, pinnable_bytes: int) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._chunks = PackedChunks(pinnable_bytes - 2 * RING_HALF_BYTES, _pinned)
        self._ring = PinnedRing()

    def master(self, data: torch.Tensor) -> torch.Tensor:
        """Return a pinned copy; without room for one, the weight itself, which then goes through the ring."""
        copied = self._chunks.copy_of(data)
        return data if copied is None else copied

    def release(self, master: torch.Tensor) -> None:
        """Give its place in a chunk back; a chunk without masters is free for others."""
        self._chunks.release(master)

    def bring(self, blocks: Sequence[Block], masters: Mapping[Weight, torch.Tensor]) -> None:
        """Start the copies and return; a layer waits, on the card, for its own weights when it is called first."""
        computing = torch.cuda.current_stream(self._device)
        arriving = {
            weight: torch.empty_like(masters[weight], device=self._device)
            for block in blocks
            for weight in block.weights
        }
        self._copies.wait_stream(computing)  # kernels that still run may own the memory that was just given out
        with torch.cuda.stream(self._copies):
            for block in blocks:
                for weight in block.weights:
                    self._copy(arriving[weight], masters[weight])
                arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
                arrived.record()
                if block.door is None:
                    computing.wait_event(arrived)
                else:
                    _wait_once(block.door, arrived)
        for weight, data in arriving.items():
            data.record_stream(self._copies)  # an eviction before the copy has ended must not free its target
            weight.data = data

    def absent(self, master: torch.Tensor) -> torch.Tensor:
        """Return an empty tensor on the card: diffusers asks the first weight of a model where it runs."""
        return torch.empty(0, dtype=master.dtype, device=self._device)

    def _copy(self, target: torch.Tensor, master: torch.Tensor) -> None:
        if master.is_pinned():
            target.copy_(master, non_blocking=True)
        else:
            self._ring.copy(target, master)


class PackedChunks:
    """Copies of tensors one behind the other in large buffers, up to a limit in bytes.

    A buffer is given back when all of its copies are released.
    """

    def __init__(self, most_bytes: int, allocate: Callable[[int], torch.Tensor]) -> None:
        self._left = most_bytes
        self._allocate = allocate
        self._chunk = torch.empty(0, dtype=torch.uint8)
        self._used = 0
        self._copies: Counter[int] = Counter()
        """By the address of their buffer."""

    def copy_of(self, data: torch.Tensor) -> torch.Tensor | None:
        """Return an equal tensor inside a chunk, or ``None`` when the limit is reached."""
        if self._used + data.nbytes > self._chunk.nbytes:
            size = max(CHUNK_BYTES, 1 << (data.nbytes - 1).bit_length())
            if size > self._left:
                return None
            self._left -= size
            self._chunk, self._used = self._allocate(size), 0
        place = self._chunk[self._used : self._used + data.nbytes]
        self._used += -(-data.nbytes // _ALIGNMENT) * _ALIGNMENT
        self._copies[_buffer(place).data_ptr()] += 1
        return place.view(data.dtype).view(data.shape).copy_(data)

    def release(self, copy: torch.Tensor) -> None:
        """Forget a copy; a tensor that is none is left alone."""
        buffer = _buffer(copy)
        address = buffer.data_ptr()
        if address not in self._copies:
            return
        self._copies[address] -= 1
        if self._copies[address] == 0:
            del self._copies[address]
            self._left += buffer.nbytes()
            if address == _buffer(self._chunk).data_ptr():
                self._chunk, self._used = torch.empty(0, dtype=torch.uint8), 0


class PinnedRing:
    """Two pinned buffers in turn: while one is copied to the card, the other is filled from pageable memory."""

    def __init__(self) -> None:
        self._halves: itertools.cycle[tuple[torch.Tensor, Any]] | None = None

    def copy(self, target: torch.Tensor, master: torch.Tensor) -> None:
        """Copy on the current stream; blocks the caller while the host's part is done."""
        if self._halves is None:
            buffers = [_pinned(RING_HALF_BYTES) for _ in range(2)]
            self._halves = itertools.cycle([(buffer, torch.cuda.Event()) for buffer in buffers])  # type: ignore[no-untyped-call]
        source, destination = (tensor.contiguous().view(-1).view(torch.uint8) for tensor in (master, target))
        for start in range(0, source.nbytes, RING_HALF_BYTES):
            buffer, left = next(self._halves)
            left.synchronize()
            piece = buffer[: min(RING_HALF_BYTES, source.nbytes - start)]
            piece.copy_(source[start : start + piece.nbytes])
            destination[start : start + piece.nbytes].copy_(piece, non_blocking=True)
            left.record()


def _buffer(tensor: torch.Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def _pinned(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


def _wait_once(door: torch.nn.Module, arrived: Any) -> None:
    def wait(*_: object) -> None:
        handle.remove()
        torch.cuda.current_stream().wait_event(arrived)

    handle = door.register_forward_pre_hook(wait)

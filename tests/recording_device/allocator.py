"""The card's memory as torch's caching allocator gives it out, and the host's locked memory."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch

from tests.recording_device.accesses import Map, Region
from tests.recording_device.streams import Event, Stream

GRAIN: Final = 512
_NO_VALUE: Final = 0xFF
"""Read as floating point numbers, bytes of it are NaN."""


@dataclass(eq=False)
class Block:
    """Memory of the card; ``uses`` are events of the other streams that it has to wait for."""

    region: Region
    stream: Stream
    uses: list[Event] = field(default_factory=list)
    recorded: set[Stream] = field(default_factory=set)
    is_live: bool = False

    @property
    def is_free(self) -> bool:
        """Whether the next tensor of its stream may have it."""
        return not self.is_live and all(event.is_over for event in self.uses)


class Allocator:
    """Implements rules 4 and 5: ``free`` says what the driver has, ``event_on`` marks the end of a stream's work.

    ``most_reserved`` is the process's share.
    """

    def __init__(self, regions: Map, free: Callable[[], int], event_on: Callable[[Stream], Event]) -> None:
        self._regions = regions
        self._free = free
        self._event_on = event_on
        self._blocks: list[Block] = []
        self.most_reserved: float = math.inf
        self.allocations: list[int] = []
        """Bytes of every tensor that was asked for."""
        self.peak_active = 0
        self.peak_reserved = 0

    @property
    def reserved(self) -> int:
        """Bytes that the process holds."""
        return sum(block.region.size for block in self._blocks)

    @property
    def active(self) -> int:
        """Bytes of tensors, and of blocks that wait for a stream."""
        return sum(block.region.size for block in self._blocks if not block.is_free)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, stream: Stream) -> torch.Tensor:
        """Return a tensor without values."""
        used = math.prod(shape) * dtype.itemsize
        if used == 0:
            return torch.empty(shape, dtype=dtype)
        self.allocations.append(used)
        size = -(-used // GRAIN) * GRAIN
        block = self._reusable(size, stream) or self._new(size, stream)
        block.is_live, block.recorded = True, set()
        self.peak_active = max(self.peak_active, self.active)
        view = block.region.buffer[:used]
        weakref.finalize(view, self._let_go, block)
        return torch.from_numpy(view).view(dtype).view(shape)

    def keep_for(self, tensor: torch.Tensor, stream: Stream) -> None:
        """Remember that another stream uses a tensor's block."""
        block = next((block for block in self._blocks if block.region is self._regions.at(tensor)), None)
        if block is not None and block.stream is not stream:
            block.recorded.add(stream)

    def empty_cache(self) -> None:
        """Wait for what streams still do with blocks, then give all free ones back."""
        for block in self._blocks:
            if not block.is_live:
                block.stream.advance()
                for event in block.uses:
                    event.synchronize()
        for block in [block for block in self._blocks if block.is_free]:
            self._blocks.remove(block)
            self._regions.remove(block.region)

    def _reusable(self, size: int, stream: Stream) -> Block | None:
        fitting = (b for b in self._blocks if b.is_free and b.stream is stream and b.region.size == size)
        if (block := next(fitting, None)) is not None:
            for event in block.uses:  # over: the allocator has asked, so the host knows
                event.synchronize()
            stream.give(lambda: block.region.buffer.fill(_NO_VALUE))
        return block

    def _new(self, size: int, stream: Stream) -> Block:
        if size > self._obtainable():
            self.empty_cache()
        if size > self._obtainable():
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB.")
        block = Block(Region(np.full(size, _NO_VALUE, np.uint8), "card"), stream)
        self._blocks.append(block)
        self._regions.add(block.region)
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return block

    def _obtainable(self) -> float:
        return min(self._free(), self.most_reserved - self.reserved)

    def _let_go(self, block: Block) -> None:
        block.is_live = False
        block.uses = [self._event_on(stream) for stream in block.recorded]


class PinnedMemory:
    """Rule 6: at most ``most`` bytes are locked; where refusals stick, nothing more is after the first one."""

    def __init__(self, regions: Map, most: float, refusals_stick: bool) -> None:
        self._regions = regions
        self._sticks = refusals_stick
        self.most = most
        self.locked = 0
        self.peak = 0
        self.refusals = 0

    def take(self, size: int) -> torch.Tensor:
        """Return locked bytes."""
        if self.locked + size > self.most or (self._sticks and self.refusals):
            self.refusals += 1
            raise torch.AcceleratorError("CUDA error: out of memory")
        buffer = np.empty(size, np.uint8)
        region = Region(buffer, "pinned")
        self._regions.add(region)
        self.locked += size
        self.peak = max(self.peak, self.locked)
        view = buffer[:]
        weakref.finalize(view, self._unlock, region)
        return torch.from_numpy(view)

    def _unlock(self, region: Region) -> None:
        self.locked -= region.size
        self._regions.remove(region)

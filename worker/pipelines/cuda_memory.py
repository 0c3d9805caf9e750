"""A card's memory: masters packed into pinned chunks, copies on a stream of their own."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from shared.host_memory import pinning_limit
from shared.planner import GIB
from worker.pipelines.cuda import Cuda, Event
from worker.pipelines.device_memory import Arrival, Block, Weight
from worker.pipelines.passing import PassingBuffers, passing_bytes
from worker.pipelines.pinned import PackedChunks, PinnedRing, pinned_or_none


class CudaMemory:
    """Implements ``DeviceMemory`` for one card."""

    def __init__(self, cuda: Cuda, pinnable_bytes: int) -> None:
        self._cuda = cuda
        self._copies = cuda.stream()
        self._ring = PinnedRing(cuda, pinnable_bytes)
        self._chunks = PackedChunks(pinnable_bytes - self._ring.bytes, partial(pinned_or_none, cuda))

    @property
    def shortage(self) -> str | None:
        """What a refusal of pinned memory means for switches, in words; ``None`` where nothing was refused."""
        if self._ring.bytes == 0:
            how = "weights are copied from pageable memory, which is slow and makes the worker wait"
        elif self._chunks.is_refused:
            how = f"the rest passes through a pinned ring of {self._ring.bytes / 2**20:.0f} MiB, which is slower"
        else:
            return None
        return (
            f"The system pins {self._chunks.bytes / GIB:.1f} GiB of weights and refuses more: {how}. {pinning_limit()}"
        )

    def master(self, data: torch.Tensor) -> torch.Tensor:
        """Return a pinned copy; without room for one, the weight itself, which then goes through the ring."""
        copied = self._chunks.copy_of(data)
        return data if copied is None else copied

    def release(self, master: torch.Tensor) -> None:
        """Give its place in a chunk back; a chunk without masters is free for others."""
        self._chunks.release(master)

    def bring(self, blocks: Sequence[Block], masters: Mapping[Weight, torch.Tensor]) -> Arrival:
        """Start the copies and return; a layer waits, on the card, for its own weights when it is called first."""
        computing = self._cuda.current_stream()
        arriving = {
            weight: self._cuda.empty(*masters[weight].shape, dtype=masters[weight].dtype)
            for block in blocks
            for weight in block.weights
        }
        self._copies.wait_stream(computing)  # kernels that still run may own the memory that was just given out
        arrived = self._cuda.event()
        with self._cuda.on(self._copies):
            for block in blocks:
                for weight in block.weights:
                    self._copy(arriving[weight], masters[weight])
                arrived = self._cuda.event()
                arrived.record()
                if block.door is None:
                    computing.wait_event(arrived)
                else:
                    _wait_once(self._cuda, block.door, arrived)
        for weight, data in arriving.items():
            self._cuda.keep_for(data, self._copies)  # an eviction before the copy has ended must not free its target
            weight.data = data
        return partial(self._lend, arrived, tuple(arriving))

    def stream(self, blocks: Sequence[Block], masters: Mapping[Weight, torch.Tensor]) -> Generator[Block, None, None]:
        """Let blocks pass through two buffers of the size of the largest; whoever asks for the next has read the last.

        The stream that is current when a block is asked for reads it.
        """
        turns = [[masters[weight] for weight in block.weights] for block in blocks]
        buffers = PassingBuffers(self._cuda, self._copies, max(map(passing_bytes, turns), default=0))
        try:
            coming = buffers.fill(0, turns[0], self._copy) if turns else []
            for turn, block in enumerate(blocks):
                here = coming
                if turn + 1 < len(turns):
                    coming = buffers.fill(turn + 1, turns[turn + 1], self._copy)
                reader = self._cuda.current_stream()
                buffers.begin_reading(turn, reader)
                for weight, data in zip(block.weights, here, strict=True):
                    weight.data = data
                try:
                    yield block
                finally:
                    buffers.end_reading(turn, reader)
        finally:
            buffers.close()

    def absent(self, master: torch.Tensor) -> torch.Tensor:
        """Return an empty tensor on the card: diffusers asks the first weight of a model where it runs."""
        return self._cuda.empty(0, dtype=master.dtype)

    def _copy(self, target: torch.Tensor, master: torch.Tensor) -> None:
        if self._chunks.holds(master):
            self._cuda.copy(target, master)
        else:
            self._ring.copy(target, master)

    def _lend(self, arrived: Event, weights: Sequence[Weight]) -> None:
        """Let the current stream read weights where they are, and keep their memory until it has."""
        reader = self._cuda.current_stream()
        reader.wait_event(arrived)
        for weight in weights:
            self._cuda.keep_for(weight.data, reader)


def _wait_once(cuda: Cuda, door: torch.nn.Module, arrived: Event) -> None:
    def wait(*_: Any) -> None:
        handle.remove()
        cuda.current_stream().wait_event(arrived)

    handle = door.register_forward_pre_hook(wait)

"""The card itself: implements ``worker.pipelines.cuda.Cuda`` over host memory."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from tests.recording_device.accesses import Map, Watching, extent
from tests.recording_device.allocator import Allocator, PinnedMemory
from tests.recording_device.streams import HOST, Clock, Event, Stream
from worker.pipelines.cuda import CardMemory
from worker.pipelines.device import Device

DRIVER_BYTES = 2**20
"""What CUDA itself takes of the card."""


@dataclass(frozen=True)
class Copy:
    """A copy that a stream was given: where to, and how much."""

    stream: str
    start: int
    size: int


class RecordingCuda:
    """Implements ``Cuda``. Work is watched inside ``recording()``; see the package for the rules."""

    def __init__(self, total: int = 2**40, *, pin_at_most: float = math.inf, refusals_stick: bool = False) -> None:
        self.total = total
        self.others = 0
        """Bytes that other processes have of the card."""
        self.copies: list[Copy] = []
        """Every copy to the card, in the order in which the host asked for them."""
        self._host = Clock()
        self._streams = [Stream("computing", self._host)]
        self._current = self._streams[0]
        self._regions = Map()
        self.allocator = Allocator(self._regions, lambda: self.memory().free, self._event_on)
        self.pinning = PinnedMemory(self._regions, pin_at_most, refusals_stick)

    @contextmanager
    def recording(self) -> Iterator[RecordingCuda]:
        """Take every operation of torch on this card's memory, until the block ends, as a kernel."""
        with Watching(self._account):
            yield self

    def stream(self) -> Stream:
        """Return a new stream."""
        self._streams.append(Stream(f"stream {len(self._streams)}", self._host))
        return self._streams[-1]

    def current_stream(self) -> Stream:
        """Return the caller's."""
        return self._current

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """Make a stream the current one."""
        before, self._current = self._current, stream
        try:
            yield
        finally:
            self._current = before

    def event(self) -> Event:
        """Return a new event."""
        return Event(self._host, self.current_stream)

    def empty(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        """Return memory of the card."""
        return self.allocator.empty(shape, dtype, self._current)

    def pinned(self, size: int) -> torch.Tensor:
        """Return locked bytes, or refuse."""
        return self.pinning.take(size)

    def copy(self, target: torch.Tensor, source: torch.Tensor, *, wait: bool = False) -> None:
        """Give the current stream a copy between contiguous tensors of equal type."""
        stream, size = self._current, target.nbytes
        if size == 0:
            return
        assert target.is_contiguous()
        assert source.is_contiguous()
        assert (target.dtype, size) == (source.dtype, source.nbytes)
        places = [self._regions.at(tensor) for tensor in (target, source)]
        assert wait or all(places), "pageable memory: the caller must wait"
        if self._is_on_card(target):
            self.copies.append(Copy(stream.name, target.data_ptr(), size))
        # The host's side stays until the copy is done, as torch's host allocator sees to it. The card's is only kept
        # from the system: whose it is meanwhile, `record_stream` has to say.
        kept = [tensor for tensor in (target, source) if not self._is_on_card(tensor)]
        start, origin = target.data_ptr(), source.data_ptr()

        def move() -> None:
            ctypes.memmove(start, origin, size)
            kept.clear()
            places.clear()

        deed = stream.give(move)
        self._check(stream.name, stream.clock, deed, [source], [target])
        if wait:
            self._event_on(stream).synchronize()

    def keep_for(self, tensor: torch.Tensor, stream: Stream) -> None:
        """Let a tensor's memory wait for a stream when it is freed."""
        self.allocator.keep_for(tensor, stream)

    def memory(self) -> CardMemory:
        """Return the bytes of this moment."""
        reserved = self.allocator.reserved
        free = max(0, self.total - DRIVER_BYTES - self.others - reserved)
        return CardMemory(free, self.total, reserved, self.allocator.active)

    def free_cache(self) -> None:
        """Give unused blocks back."""
        self.allocator.empty_cache()

    def limit(self, size: int) -> None:
        """Set the process's share."""
        self.allocator.most_reserved = size

    def finish(self) -> None:
        """Let all streams do all of their work, and the host know."""
        for stream in self._streams:
            stream.advance()
            self._host.learn(stream.clock)

    def _account(self, reads: list[torch.Tensor], writes: list[torch.Tensor]) -> None:
        if any(map(self._is_on_card, (*reads, *writes))):
            stream = self._current
            deed = stream.give(lambda: None)
            self._check(stream.name, stream.clock, deed, reads, writes)
            stream.advance()
        else:
            self._check(HOST, self._host, self._host.tick(HOST), reads, writes)

    def _check(
        self, actor: str, clock: Clock, deed: int, reads: list[torch.Tensor], writes: list[torch.Tensor]
    ) -> None:
        for tensors, is_write in ((reads, False), (writes, True)):
            for tensor in tensors:
                if (region := self._regions.at(tensor)) is not None:
                    region.access(actor, clock, deed, *extent(tensor), writes=is_write)

    def _is_on_card(self, tensor: torch.Tensor) -> bool:
        region = self._regions.at(tensor)
        return region is not None and region.kind == "card"

    def _event_on(self, stream: Stream) -> Event:
        event = self.event()
        event.record(stream)
        return event


def recording_card(cuda: RecordingCuda, dtype: torch.dtype = torch.bfloat16) -> Device:
    """Return the device of a product that runs on this card."""
    return Device(torch.device("cpu"), dtype, "a recording card", cuda.total, cuda=cuda)

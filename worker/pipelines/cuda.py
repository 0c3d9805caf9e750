"""What this project asks of a card: streams, events, memory. ``TorchCuda`` asks torch; tests have a recording one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True, slots=True)
class CardMemory:
    """Bytes of a card at one moment."""

    free: int
    """What nobody has: neither this process nor any other."""
    total: int
    reserved: int
    """What torch holds for this process."""
    active: int
    """The part of it that tensors are in, or that a stream may still use."""

    @property
    def obtainable(self) -> int:
        """What this process could still fill with tensors."""
        return self.free + self.reserved - self.active

    @property
    def share(self) -> int:
        """What this process has or could get."""
        return self.free + self.reserved


class Event(Protocol):
    """A mark in the work of a stream, as ``torch.cuda.Event``."""

    def record(self, stream: Any = None) -> None:
        """Mark the end of what the stream (unset: the current one) was given so far."""

    def synchronize(self) -> None:
        """Let the caller wait for it."""


class Stream(Protocol):
    """Work in order, beside that of other streams, as ``torch.cuda.Stream``."""

    def wait_event(self, event: Any) -> None:
        """Let what the stream is given from now on wait for the event; the caller does not wait."""

    def wait_stream(self, stream: Any) -> None:
        """The same for all that another stream was given so far."""


class Cuda(Protocol):
    """One card."""

    def stream(self) -> Stream:
        """Return a new stream."""

    def current_stream(self) -> Stream:
        """Return the stream that gets the caller's work."""

    def on(self, stream: Stream) -> AbstractContextManager[Any]:
        """Give a stream all work until the block ends."""

    def event(self) -> Event:
        """Return a new event, which counts as over until it is recorded."""

    def empty(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        """Return memory of the card without values; it belongs to the current stream.

        Raises:
          torch.OutOfMemoryError: there is not so much.
        """

    def pinned(self, size: int) -> torch.Tensor:
        """Return bytes of the host's memory, locked in place, between which and the card copies need no host.

        Raises:
          RuntimeError: the system locks no more.
        """

    def copy(self, target: torch.Tensor, source: torch.Tensor, *, wait: bool = False) -> None:
        """Give the current stream a copy; with ``wait`` return when it is done, as pageable memory demands."""

    def keep_for(self, tensor: torch.Tensor, stream: Stream) -> None:
        """Do not give a tensor's memory to others before the work that the stream has when it is freed is done."""

    def memory(self) -> CardMemory:
        """Return the bytes of this moment."""

    def free_cache(self) -> None:
        """Give memory that no tensor is in back to the driver."""

    def limit(self, size: int) -> None:
        """Let torch hold at most so many bytes of the card; beyond that it is out of memory."""


class TorchCuda:
    """Implements ``Cuda``: beside ``device``, the only caller of ``torch.cuda``."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stream(self) -> Stream:
        """Return a new stream."""
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def current_stream(self) -> Stream:
        """Return the caller's."""
        return torch.cuda.current_stream(self._device)

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Make a stream the current one."""
        return torch.cuda.stream(stream)

    def event(self) -> Event:
        """Return a new event."""
        return torch.cuda.Event()  # type: ignore[no-untyped-call]

    def empty(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        """Return memory of the card."""
        return torch.empty(shape, dtype=dtype, device=self._device)

    def pinned(self, size: int) -> torch.Tensor:
        """Return locked bytes."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def copy(self, target: torch.Tensor, source: torch.Tensor, *, wait: bool = False) -> None:
        """Copy on the current stream."""
        target.copy_(source, non_blocking=not wait)

    def keep_for(self, tensor: torch.Tensor, stream: Any) -> None:
        """Record the stream's use with torch's allocator."""
        tensor.record_stream(stream)

    def memory(self) -> CardMemory:
        """Return the driver's figures and torch's own."""
        free, total = torch.cuda.mem_get_info(self._device)
        held = torch.cuda.memory_stats(self._device)
        reserved, active = (held.get(f"{name}_bytes.all.current", 0) for name in ("reserved", "active"))
        return CardMemory(free, total, reserved, active)

    def free_cache(self) -> None:
        """Empty torch's cache."""
        torch.cuda.empty_cache()

    def limit(self, size: int) -> None:
        """Set torch's share of the card."""
        total = torch.cuda.get_device_properties(self._device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / total), self._device)

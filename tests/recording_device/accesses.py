"""Who reads and writes which bytes, and whether CUDA promises an order."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.recording_device.streams import Clock

Account = Callable[[list[torch.Tensor], list[torch.Tensor]], None]
"""Takes note of what an operation reads and of what it writes, before it runs."""

_ASKS_FOR_NO_VALUES = ("empty_like", "new_empty", "ones_like", "zeros_like", "full_like", "new_zeros", "new_ones")


class Race(AssertionError):
    """Two accesses to the same bytes, at least one of them a write, that nothing puts in an order."""


class Region:
    """A piece of memory and who accessed it last, kept over all tensors that were in it."""

    def __init__(self, buffer: np.ndarray, kind: str) -> None:
        self.buffer = buffer
        self.start = buffer.ctypes.data
        self.size = buffer.nbytes
        self.kind = kind
        self._last: dict[tuple[str, int, int, bool], int] = {}

    def access(self, actor: str, clock: Clock, deed: int, start: int, end: int, *, writes: bool) -> None:
        """Note a deed of an actor, who knows what its clock says.

        Raises:
          Race: another's deed, which it does not know to be over, gets in its way.
        """
        for (other, first, last, wrote), done in self._last.items():
            if other == actor or last <= start or end <= first or not (writes or wrote):
                continue
            if not clock.knows(other, done):
                now, then = ("writes" if writes else "reads"), ("writes" if wrote else "reads")
                raise Race(f"{actor} {now} {end - start} bytes that {other} {then}, and waits for no event of it")
        self._last[actor, start, end, writes] = deed


class Map:
    """All regions, by address."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._regions: dict[int, Region] = {}

    def add(self, region: Region) -> None:
        """Know a region."""
        bisect.insort(self._starts, region.start)
        self._regions[region.start] = region

    def remove(self, region: Region) -> None:
        """Forget it: the driver has the memory again."""
        self._starts.remove(region.start)
        del self._regions[region.start]

    def at(self, tensor: torch.Tensor) -> Region | None:
        """Return where a tensor's values are, if it is in any region."""
        index = bisect.bisect_right(self._starts, tensor.data_ptr()) - 1
        if index < 0 or tensor.numel() == 0:
            return None
        region = self._regions[self._starts[index]]
        return region if tensor.data_ptr() < region.start + region.size else None


def extent(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor's values and the one behind its last, gaps between them included."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return start, start + (last + 1) * tensor.element_size()


class Watching(TorchDispatchMode):
    """Tells ``account`` of every operation of torch, as a card would get it as a kernel."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Take note, then compute."""
        kwargs = kwargs or {}
        if not func.is_view and func.overloadpacket.__name__ not in _ASKS_FOR_NO_VALUES:
            reads, writes = [], []
            for written, tensors in _arguments(func, args, kwargs):
                (writes if written else reads).extend(tensors)
            self._account(reads, writes)
        return func(*args, **kwargs)


def _arguments(func: Any, args: Any, kwargs: Any) -> Iterator[tuple[bool, list[torch.Tensor]]]:
    for index, argument in enumerate(func._schema.arguments):
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        written = argument.alias_info is not None and argument.alias_info.is_write
        yield written, [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]

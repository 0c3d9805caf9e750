"""What is on the device, and the one rule of coming and going: never over budget, never what is in use, and first what
the job at hand needs last.

The planner decides which models should stay; this carries it out and keeps the account in bytes, the same on a card
and in host memory. What the job at hand needs again leaves in parts, from its end, and no more than must: its first
parts are what a phase needs first.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import structlog
import torch

from shared.domain.errors import OutOfMemory
from shared.planner import GIB
from worker.pipelines.device_memory import Block, DeviceMemory, Master
from worker.pipelines.error_texts import is_out_of_memory

log = structlog.get_logger(__name__)


PART_BYTES: Final = 256 * 2**20
"""What leaves at a time. A block of FLUX.1's transformer or of T5 has 220 to 460 MB: about one at a time."""


class _Item:
    """Weights under one name, in parts that come in order and leave from the end."""

    def __init__(self, master: Master, parts: Sequence[Sequence[Block]], sizes: Sequence[int]) -> None:
        self.master = master
        self.users = 0
        self._parts = parts
        self._sizes = sizes
        self._here = 0
        """So many parts are on the device, the first ones."""

    @property
    def here_bytes(self) -> int:
        return sum(self._sizes[: self._here])

    @property
    def missing_bytes(self) -> int:
        return sum(self._sizes[self._here :])

    @property
    def is_away(self) -> bool:
        return self._here == 0

    def bring(self) -> None:
        """Bring what is away."""
        for part in self._parts[self._here :]:
            self.master.bring(part)
            self._here += 1

    def shorten(self) -> None:
        """Take the last part off the device."""
        self._here -= 1
        self.master.evict(self._parts[self._here])


class Residency:
    """Named groups of weights; ``brought`` counts how often each came, ``brought_bytes`` what that moved."""

    def __init__(self, memory: DeviceMemory, usable_bytes: int, part_bytes: int = PART_BYTES) -> None:
        self._memory = memory
        self._usable_bytes = usable_bytes
        self._part_bytes = part_bytes
        self._items: dict[str, _Item] = {}
        self._resident: OrderedDict[str, _Item] = OrderedDict()
        self._working_bytes = 0
        self._leaving: tuple[str, ...] = ()
        self._job_bytes = 0
        self.brought: Counter[str] = Counter()
        self.brought_bytes = 0

    def add(self, name: str, blocks: Iterable[Block], *, whole: bool = False) -> None:
        """Take over weights under a name, unless it is known; they are off the device afterwards.

        ``whole``: they never leave in parts.
        """
        if name not in self._items:
            filled = [block for block in blocks if block.weights]
            parts = [filled] if whole else in_parts(filled, self._part_bytes)
            sizes = [nbytes_of(part) for part in parts]  # before they leave: what is away has none
            self._items[name] = _Item(Master(filled, self._memory), parts, sizes)

    def knows(self, name: str) -> bool:
        """Whether weights were added under this name."""
        return name in self._items

    def remove(self, name: str) -> None:
        """Forget weights, if they are known, and what the host holds of them; nobody may be using them."""
        self.evict([name])
        item = self._items.pop(name, None)
        if item is not None:
            item.master.release()

    def resize(self, usable_bytes: int) -> None:
        """Keep to another budget from the next use on."""
        self._usable_bytes = usable_bytes

    def resident(self) -> tuple[str, ...]:
        """Return the names on the device, also those of which a part is away, least recently used first."""
        return tuple(self._resident)

    def holds(self, names: Iterable[str]) -> bool:
        """Whether all of these are on the device, with all of their parts."""
        return not any(self._items[name].missing_bytes for name in names)

    @property
    def resident_bytes(self) -> int:
        """Bytes of all weights on the device."""
        return sum(item.here_bytes for item in self._resident.values())

    def begin(self, leaving: Sequence[str], working_bytes: int) -> None:
        """Hear what the job at hand, and the plan behind it, need: in which order to leave, if something must.

        What is not in ``leaving`` goes before it, whole and oldest first. ``working_bytes`` are those of the job's
        hungriest phase: whatever comes in early must leave room for it.
        """
        self._leaving = tuple(leaving)
        self._job_bytes = working_bytes

    @contextmanager
    def using(self, names: Sequence[str], working_bytes: int) -> Iterator[None]:
        """Have these on the device, with ``working_bytes`` beside them, until the block ends.

        Raises:
          OutOfMemory: they do not fit beside what else is in use.
        """
        items = [self._items[name] for name in names]
        for item in items:
            item.users += 1
        before = self._working_bytes
        self._working_bytes = max(before, working_bytes)
        try:
            self._make_room(sum(item.missing_bytes for item in items))
            for name in names:
                self._bring(name)
            yield
        finally:
            self._working_bytes = before
            for item in items:
                item.users -= 1

    def prefetch(self, names: Sequence[str], working_bytes: int) -> bool:
        """Bring these if there is room without evicting anything; return whether all of them are there now.

        Where the device has less room than the account says, they are left to whoever needs them.
        """
        away = [name for name in names if self._items[name].missing_bytes]
        needed = sum(self._items[name].missing_bytes for name in away)
        working = max(working_bytes, self._working_bytes)
        if self.resident_bytes + needed + working > self._usable_bytes:
            return False
        try:
            for name in away:
                self._bring(name)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            log.warning("no room to bring early", action="prefetch_failed", items=away)
            return False
        return True

    def prefetch_for_another(self, names: Sequence[str]) -> bool:
        """Bring what another job needs, if all phases of the job at hand leave room for it; return whether it came."""
        return self.prefetch(names, self._job_bytes)

    def has_room(self, more_bytes: int) -> bool:
        """Whether so much fits beside what is there and in use."""
        return self._fits(more_bytes)

    def stream(self, name: str) -> Generator[torch.nn.Module, None, None]:
        """Let the layers of this pass over the device one by one; what is there already is used where it is.

        The caller's working memory must have room for two of them; they were added as a whole.
        """
        master = self._items[name].master
        if name in self._resident:
            yield from master.layers()
            return
        self.brought[name] += 1
        self.brought_bytes += master.nbytes
        yield from master.stream()

    def evict(self, names: Iterable[str]) -> None:
        """Take these off the device, except what is in use."""
        for name in names:
            self._shorten(name, lambda: False)

    def _bring(self, name: str) -> None:
        item = self._items[name]
        before = item.here_bytes
        self._resident[name] = item
        self._resident.move_to_end(name)
        try:
            item.bring()
        finally:  # also when the device runs out of memory half-way
            if item.is_away:
                del self._resident[name]
            if moved := item.here_bytes - before:
                self.brought[name] += 1
                self.brought_bytes += moved
                log.info("brought in", action="bring", item=name, item_bytes=moved)

    def _make_room(self, needed: int) -> None:
        nobody_asks_for = [name for name in self._resident if name not in self._leaving]
        for name in nobody_asks_for:
            if self._fits(needed):
                return
            self.evict([name])
        for name in self._leaving:
            self._shorten(name, lambda: self._fits(needed))
        if not self._fits(needed):
            raise OutOfMemory(
                f"{(needed + self.resident_bytes + self._working_bytes) / GIB:.2f} GiB are needed at once, "
                f"{self._usable_bytes / GIB:.2f} GiB may be used."
            )

    def _fits(self, needed: int) -> bool:
        return self.resident_bytes + needed + self._working_bytes <= self._usable_bytes

    def _shorten(self, name: str, is_enough: Callable[[], bool]) -> None:
        """Take parts of this off the device, from its end, until it is enough or nothing is left."""
        item = self._resident.get(name)
        if item is None or item.users > 0:
            return
        before = item.here_bytes
        while not item.is_away and not is_enough():
            item.shorten()
        if item.is_away:
            del self._resident[name]
        if left := before - item.here_bytes:
            log.info("evicted", action="evict", item=name, item_bytes=left)


def in_parts(blocks: Sequence[Block], part_bytes: int) -> list[list[Block]]:
    """Return the blocks in order, in parts of ``part_bytes`` or one block more."""
    parts: list[list[Block]] = [[]]
    size = 0
    for block in blocks:
        if size >= part_bytes:
            parts.append([])
            size = 0
        parts[-1].append(block)
        size += nbytes_of([block])
    return parts


def nbytes_of(blocks: Iterable[Block]) -> int:
    """Return the bytes of all weights."""
    return sum(weight.nbytes for block in blocks for weight in block.weights)

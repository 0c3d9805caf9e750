"""What is on the device, and the one rule of coming and going: never over budget, never what is in use, oldest first.

The planner decides which models should stay; this carries it out and keeps the account in bytes, the same on a card
and in host memory.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
import torch

from shared.domain.errors import OutOfMemory
from shared.planner import GIB
from worker.pipelines.device import is_out_of_memory
from worker.pipelines.device_memory import Block, DeviceMemory, Master

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Item:
    master: Master
    users: int = 0


class Residency:
    """Named groups of weights; ``brought`` counts how often each came, ``brought_bytes`` what that moved."""

    def __init__(self, memory: DeviceMemory, usable_bytes: int) -> None:
        self._memory = memory
        self._usable_bytes = usable_bytes
        self._items: dict[str, _Item] = {}
        self._resident: OrderedDict[str, _Item] = OrderedDict()
        self._working_bytes = 0
        self.brought: Counter[str] = Counter()
        self.brought_bytes = 0

    def add(self, name: str, blocks: Iterable[Block]) -> None:
        """Take over weights under a name, unless it is known; they are off the device afterwards."""
        if name not in self._items:
            self._items[name] = _Item(Master([block for block in blocks if block.weights], self._memory))

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
        """Return the names on the device, least recently used first."""
        return tuple(self._resident)

    @property
    def resident_bytes(self) -> int:
        """Bytes of all weights on the device."""
        return sum(item.master.nbytes for item in self._resident.values())

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
            self._make_room(
                sum(item.master.nbytes for name, item in zip(names, items, strict=True) if self._is_away(name))
            )
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
        away = [name for name in names if self._is_away(name)]
        needed = sum(self._items[name].master.nbytes for name in away)
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

    def has_room(self, more_bytes: int) -> bool:
        """Whether so much fits beside what is there and in use."""
        return self._fits(more_bytes)

    def stream(self, name: str) -> Generator[torch.nn.Module, None, None]:
        """Let the layers of this pass over the device one by one; what is there already is used where it is.

        The caller's working memory must have room for two of them.
        """
        master = self._items[name].master
        if not self._is_away(name):
            yield from master.layers()
            return
        self.brought[name] += 1
        self.brought_bytes += master.nbytes
        yield from master.stream()

    def evict(self, names: Iterable[str]) -> None:
        """Take these off the device, except what is in use."""
        for name in names:
            item = self._resident.get(name)
            if item is not None and item.users == 0:
                del self._resident[name]
                item.master.evict()
                log.info("evicted", action="evict", item=name, item_bytes=item.master.nbytes)

    def _is_away(self, name: str) -> bool:
        return name not in self._resident

    def _bring(self, name: str) -> None:
        if self._is_away(name):
            item = self._items[name]
            item.master.bring()
            self._resident[name] = item
            self.brought[name] += 1
            self.brought_bytes += item.master.nbytes
            log.info("brought in", action="bring", item=name, item_bytes=item.master.nbytes)
        self._resident.move_to_end(name)

    def _make_room(self, needed: int) -> None:
        for name in list(self._resident):
            if self._fits(needed):
                return
            self.evict([name])
        if not self._fits(needed):
            raise OutOfMemory(
                f"{(needed + self.resident_bytes + self._working_bytes) / GIB:.2f} GiB are needed at once, "
                f"{self._usable_bytes / GIB:.2f} GiB may be used."
            )

    def _fits(self, needed: int) -> bool:
        return self.resident_bytes + needed + self._working_bytes <= self._usable_bytes

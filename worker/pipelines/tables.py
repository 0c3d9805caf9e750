"""Modulation tables by what they depend on, on the device: the running job's, and the next one's while it is made."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import structlog
import torch

from worker.pipelines.conditioning import Conditioning
from worker.pipelines.device import SideStream
from worker.pipelines.modulation import Layers, compute_rows, table_widths

log = structlog.get_logger(__name__)

MOST_TABLES: Final = 2
"""What ``shared.planner.sizes.MODULATION_TABLE_SHARE`` has room for."""


class ModulationTables:
    """The tables of one device; the least recently used goes first.

    ``made`` counts the tables made at a first step, ``prepared`` those made ahead of it.
    """

    def __init__(self, side: SideStream) -> None:
        self._side = side
        self._tables: OrderedDict[str, torch.Tensor] = OrderedDict()
        self.made = 0
        self.prepared = 0

    def get(
        self, denoiser: str, transformer: Any, conditioning: Conditioning, layers: Callable[[], Layers]
    ) -> torch.Tensor:
        """Return a table; it is made now unless it was prepared, or served a job before.

        ``denoiser`` names the transformer's weights; ``layers`` brings them.
        """
        key = _key(denoiser, conditioning)
        known = self._tables.get(key)
        log.info("modulation table", action="modulation_table", model=denoiser, hit=known is not None)
        if known is None:
            known = _empty(transformer, conditioning)
            for _ in compute_rows(known, table_widths(transformer), layers(), conditioning):
                pass
            self.made += 1
        else:
            self._side.hand_over(known)
        self._keep(key, known)
        return known

    def prepare(
        self, denoiser: str, transformer: Any, expected: Callable[[], Conditioning], layers: Callable[[], Layers]
    ) -> Preparation | None:
        """Return what makes a table bit by bit, beside the running job; ``None`` when it is there."""
        with self._side.working():
            conditioning = expected()
            key = _key(denoiser, conditioning)
        if key in self._tables:
            self._tables.move_to_end(key)
            return None
        self._shrink(MOST_TABLES - 1)
        return Preparation(self, self._side, key, transformer, conditioning, layers())

    def clear(self) -> None:
        """Forget all: somebody needs the memory."""
        self._tables.clear()

    def _finish(self, key: str, rows: torch.Tensor) -> None:
        self.prepared += 1
        self._keep(key, rows)

    def _keep(self, key: str, rows: torch.Tensor) -> None:
        self._tables[key] = rows
        self._tables.move_to_end(key)
        self._shrink(MOST_TABLES)

    def _shrink(self, most: int) -> None:
        while len(self._tables) > most:
            self._tables.popitem(last=False)


class Preparation:
    """One table in the making, beside the job that runs. Close it in every case: its layers are on the device."""

    def __init__(
        self,
        tables: ModulationTables,
        side: SideStream,
        key: str,
        transformer: Any,
        conditioning: Conditioning,
        layers: Layers,
    ) -> None:
        self._tables = tables
        self._side = side
        self._key = key
        self._layers = layers
        widths = table_widths(transformer)
        with side.working():
            self._rows = _empty(transformer, conditioning)
        self._work = compute_rows(self._rows, widths, layers, conditioning)
        self._left = self._all = len(widths)

    def advance(self, share: float) -> None:
        """Go on until ``share`` (0..1) of the modules are done; the table is ready at 1."""
        while self._left > self._all - math.ceil(share * self._all):
            with self._side.working():
                next(self._work)
            self._left -= 1
            if self._left == 0:
                self.close()
                self._tables._finish(self._key, self._rows)

    def close(self) -> None:
        """Take the layers off the device; what is not finished is forgotten."""
        self._work.close()
        self._layers.close()


def _key(denoiser: str, conditioning: Conditioning) -> str:
    return f"{denoiser}/{conditioning.digest()}"


def _empty(transformer: Any, conditioning: Conditioning) -> torch.Tensor:
    shape = len(conditioning.timesteps), sum(table_widths(transformer))
    return torch.empty(shape, dtype=conditioning.dtype, device=conditioning.pooled.device)

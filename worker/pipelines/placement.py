"""One job's weights, phase by phase: what must be on the device while text is encoded, latents denoised and decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import torch

from shared.domain.acceleration import MODULATION_TABLE, TILED_DECODE, Acceleration
from shared.planner import ResidencyPlan
from worker.pipelines.conditioning import Conditioning
from worker.pipelines.decode import tiled
from worker.pipelines.ladder import Relief, Rung
from worker.pipelines.loader import LoadedPipeline
from worker.pipelines.modulation import ModulationTable
from worker.pipelines.registry import Names
from worker.pipelines.residency import Residency
from worker.pipelines.tables import ModulationTables


class Placement:
    """A plan, carried out as the job goes on."""

    def __init__(
        self,
        residency: Residency,
        names: Names,
        plan: ResidencyPlan,
        loaded: LoadedPipeline,
        tables: ModulationTables,
    ) -> None:
        self._residency = residency
        self._names = names
        self._pipeline = loaded.pipeline
        self._formats = loaded.accelerations
        self._tables = tables
        self._table: ModulationTable | None = None
        self._rung = Rung()
        self.plan = plan

    @property
    def has_room(self) -> bool:
        """Whether nothing had to be given up, so that others may come in too."""
        return not self._rung.reliefs

    @property
    def table_bytes(self) -> int:
        """What the plan has set aside for two tables, this job's and the next one's; 0 where it uses none."""
        return self.plan.sizes.table if self.plan.layout.modulation_table else 0

    @property
    def most_working_bytes(self) -> int:
        """What the hungriest phase needs beside weights."""
        sizes = self.plan.sizes
        return self._while(max(sizes.encoding, sizes.denoising, sizes.decoding))

    @property
    def holds_encoders(self) -> bool:
        """Whether the text encoders are on the device now."""
        return self._residency.holds(self._names.encoders)

    def relieve(self, rung: Rung, plan: ResidencyPlan | None = None) -> None:
        """Give up what the rung of the ladder says, of a new plan where there is one, from the next phase on."""
        self._rung = rung
        plan = plan or self.plan
        self.plan = replace(plan, layout=rung.apply_to(plan.layout))

    def forget_tables(self) -> None:
        """Forget the tables of other jobs; this one's is held by whoever reads it."""
        self._tables.clear()

    @property
    def accelerations(self) -> tuple[Acceleration, ...]:
        """What the plan uses that the plain pipeline does not."""
        layout = self.plan.layout
        used = ((MODULATION_TABLE, layout.modulation_table), (TILED_DECODE, layout.tiled_decode))
        return (*self._formats, *(acceleration for acceleration, is_used in used if is_used))

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Have the text encoders; a denoiser that leaves them no room goes, one that has room comes behind them.

        Where its modulation is a table, that comes first: see ``make_table``.
        """
        with self._residency.using(self._names.encoders, self._while(self.plan.sizes.encoding)):
            if not self.plan.moves.model_after_encoders and self._streamed is None:
                self._residency.prefetch(self._denoising_names(), self._while(self.plan.sizes.denoising))
            yield

    def make_table(self, expected: Callable[[], Conditioning]) -> None:
        """Make the job's modulation table, where the plan has one and it is not there.

        Before the denoiser comes: copies go in order, and the first block needs the table and its own weights only.
        ``expected`` is what the first step will ask for; if it asks for something else, that is made then.
        """
        if self._streamed is not None:
            self._give_up()
            with self._residency.using([], self._while(self.plan.sizes.denoising)):
                self._rows(self._streamed, expected())

    @contextmanager
    def denoising(self) -> Iterator[None]:
        """Have the denoiser and the VAE, which reads the picture of an edit or a fill; once per image."""
        self._give_up()
        working = self._while(self.plan.sizes.denoising)
        with self._residency.using(self._denoising_names(), working), self._modulation():
            yield

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Have the VAE."""
        self._give_up()
        tiling = tiled(self._pipeline.vae) if self.plan.layout.tiled_decode else nullcontext()
        with self._residency.using([self._names.vae], self._while(self.plan.sizes.decoding)), tiling:
            yield

    def _give_up(self) -> None:
        if Relief.ENCODERS_AWAY in self._rung.reliefs:
            self._residency.evict(self._names.encoders)
        if Relief.SMALLEST_PLAN in self._rung.reliefs:
            needed = self._denoising_names()
            self._residency.evict([name for name in self._residency.resident() if name not in needed])

    def _while(self, phase_bytes: int) -> int:
        """Return what a phase needs beside weights: its working memory, and the tables, which outlive the job."""
        return phase_bytes + self.plan.sizes.table

    @property
    def _streamed(self) -> str | None:
        """The modulation layers where they only pass over the device."""
        return self._names.modulation if self.plan.layout.modulation_table else None

    def _denoising_names(self) -> list[str]:
        """Return what denoising needs in the order in which it should come: the first block needs its modulation."""
        modulation = None if self._streamed else self._names.modulation
        return [name for name in (self._names.vae, modulation, self._names.denoiser) if name is not None]

    def _modulation(self) -> AbstractContextManager[None]:
        """Read the modulation from a table where the plan wants one; it serves all images of the job."""
        name = self._streamed
        if name is None:
            return nullcontext()
        if self._table is None:
            self._table = ModulationTable(self._pipeline, partial(self._rows, name))
        return self._table.in_place()

    def _rows(self, modulation: str, conditioning: Conditioning) -> torch.Tensor:
        return self._tables.get(
            self._names.denoiser, self._pipeline.transformer, conditioning, lambda: self._residency.stream(modulation)
        )


class Unmanaged:
    """diffusers' own model offload moves the weights: there is nothing to do here."""

    has_room = False
    """diffusers decides what else is there."""

    holds_encoders = False
    table_bytes = 0

    def __init__(self, loaded: LoadedPipeline) -> None:
        self._pipeline = loaded.pipeline
        self._formats = loaded.accelerations
        self._tiles = False

    @property
    def accelerations(self) -> tuple[Acceleration, ...]:
        """The weights' formats, and tiles, once they were needed."""
        return (*self._formats, TILED_DECODE) if self._tiles else self._formats

    def relieve(self, rung: Rung, plan: ResidencyPlan | None = None) -> None:  # noqa: ARG002  # there is no plan
        """Decode in tiles; nothing else is ours to give up."""
        self._tiles = Relief.TILED_DECODE in rung.reliefs

    def make_table(self, expected: Callable[[], Conditioning]) -> None:
        """Do nothing."""

    def forget_tables(self) -> None:
        """Do nothing."""

    def encoding(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    denoising = encoding

    def decoding(self) -> AbstractContextManager[None]:
        """Use tiles, once they were needed."""
        return tiled(self._pipeline.vae) if self._tiles else nullcontext()

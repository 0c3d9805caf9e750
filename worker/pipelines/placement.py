"""One job's weights, phase by phase: what must be on the device while text is encoded, latents denoised and decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from shared.domain.acceleration import MODULATION_TABLE, TILED_DECODE, Acceleration
from shared.planner import ResidencyPlan
from worker.pipelines.loader import Pipeline
from worker.pipelines.modulation import ModulationTable
from worker.pipelines.residency import Residency


@dataclass(frozen=True, slots=True)
class Names:
    """Under which names a pipeline's weights are known to the residency."""

    denoiser: str
    modulation: str
    encoders: str
    vae: str


class Placement:
    """A plan, carried out as the job goes on."""

    def __init__(self, residency: Residency, names: Names, plan: ResidencyPlan, pipeline: Pipeline) -> None:
        self._residency = residency
        self._names = names
        self._table = ModulationTable(pipeline, lambda: residency.stream(names.modulation))
        self.plan = plan

    @property
    def accelerations(self) -> tuple[Acceleration, ...]:
        """What the plan uses that the plain pipeline does not."""
        layout = self.plan.layout
        used = ((MODULATION_TABLE, layout.modulation_table), (TILED_DECODE, layout.tiled_decode))
        return tuple(acceleration for acceleration, is_used in used if is_used)

    def prefetch(self) -> None:
        """Start to bring the denoiser while text is encoded, if both have room."""
        if self.plan.layout.encoders_resident:
            self._residency.prefetch(self._denoising_names(), self._working_bytes)

    def encoding(self) -> AbstractContextManager[None]:
        """Have the text encoders; a denoiser that leaves them no room goes."""
        return self._residency.using([self._names.encoders], self.plan.sizes.encoding)

    @contextmanager
    def denoising(self) -> Iterator[None]:
        """Have the denoiser and the VAE, which reads the picture of an edit or a fill; once per image."""
        table = self._table.in_place() if self.plan.layout.modulation_table else nullcontext()
        with self._residency.using(self._denoising_names(), self._working_bytes), table:
            yield

    def decoding(self) -> AbstractContextManager[None]:
        """Have the VAE."""
        return self._residency.using([self._names.vae], self._working_bytes)

    def give_way(self) -> None:
        """Take everything off the device that no phase is using right now."""
        self._residency.evict_all()

    @property
    def _working_bytes(self) -> int:
        return self.plan.sizes.working + self.plan.sizes.table

    def _denoising_names(self) -> list[str]:
        modulation = [] if self.plan.layout.modulation_table else [self._names.modulation]
        return [self._names.vae, self._names.denoiser, *modulation]


class Unmanaged:
    """diffusers' own model offload moves the weights: there is nothing to do here."""

    accelerations: tuple[Acceleration, ...] = ()

    def prefetch(self) -> None:
        """Do nothing."""

    def encoding(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    denoising = decoding = encoding

    def give_way(self) -> None:
        """Do nothing."""

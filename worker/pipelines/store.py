"""The pipelines: each loaded at its first use, kept in host memory, and brought to the device as the plan says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog

from shared.catalog import CATALOG
from shared.domain.errors import CapabilityError
from shared.domain.model import ModelFamily, PipelineSpec
from shared.domain.precision import Precision, ResidencyKey
from shared.planner import Budget, Shape, Wanted, plan
from worker.pipelines.device import Device, device_memory
from worker.pipelines.device_memory import blocks_of
from worker.pipelines.loaded_models import LoadedModels
from worker.pipelines.loader import ENCODERS, LoadedPipeline, Loader, Pipeline, denoiser_of
from worker.pipelines.modulation import modulation_blocks
from worker.pipelines.placement import Names, Placement, Unmanaged
from worker.pipelines.planning import GPU_SPECS, machine_budget, refusals
from worker.pipelines.prompt_cache import PromptCache
from worker.pipelines.residency import Residency
from worker.pipelines.speed import Speed
from worker.pipelines.weights import Weights

log = structlog.get_logger(__name__)

DEFAULT_PROMPT_CACHE_BYTES: Final = 512 * 2**20


class PipelineStore:
    """Loads and places pipelines.

    ``cpu_offload`` leaves the card to diffusers' model offload: ``on`` always, ``auto`` where no model of a family
    fits, ``off`` never. ``host_bytes`` is the host's memory; unset: all that this machine has.
    """

    def __init__(
        self,
        weights: Weights,
        device: Device,
        cpu_offload: str = "auto",
        link_gb_per_second: float = 25.0,
        prompt_cache_bytes: int = DEFAULT_PROMPT_CACHE_BYTES,
        loader: Loader | None = None,
        host_bytes: int | None = None,
        speed: Speed | None = None,
    ) -> None:
        self._cpu_offload = cpu_offload
        self._budget: Budget = machine_budget(device, link_gb_per_second, host_bytes)
        self._loaded = LoadedModels(loader or Loader(weights, device), self._budget, self._forget)
        self._names: dict[str, Names] = {}
        self._offloaded: ResidencyKey | None = None
        self.residency = Residency(device_memory(device, self._budget.pinnable_bytes), self._budget.usable_bytes)
        self.device = device
        self.weights = weights
        self.prompts = PromptCache(prompt_cache_bytes)
        self.speed = speed or Speed()

    def check(self, spec: PipelineSpec, precision: Precision) -> None:
        """Return if a model can run at this precision here; nothing is loaded.

        Raises:
          ModelUnavailable: its weights are not here.
          CapabilityError: there is no room for it; the message says why.
        """
        self.weights.folder(spec)
        refused = refusals(spec, self._budget)
        if precision in refused and not (precision is Precision.EXACT and self._uses_offload(spec)):
            raise CapabilityError(refused[precision], field="precision")

    def load(self, spec: PipelineSpec, precision: Precision = Precision.EXACT) -> LoadedPipeline:
        """Return the pipeline of a model at a precision, in host memory unless it was placed before.

        Raises:
          ModelUnavailable: the weights are missing or cannot be read.
        """
        key = ResidencyKey(spec.model, precision)
        if key in self._loaded:
            return self._loaded.get(spec, precision)
        quantizing = 0 if precision is Precision.EXACT else GPU_SPECS[spec.model].quantizing_bytes()
        with self.residency.using([], quantizing):
            loaded = self._loaded.get(spec, precision)
        if spec.family is ModelFamily.FLUX:
            self.speed.prepare(denoiser_of(loaded.pipeline))
        return loaded

    def get(self, spec: PipelineSpec, precision: Precision = Precision.EXACT) -> Pipeline:
        """Return the pipeline of a model, ready to be called until another is placed.

        Raises:
          ModelUnavailable: the weights are missing or cannot be read.
        """
        loaded = self.load(spec, precision)
        placement = self.place(loaded)
        with placement.encoding(), placement.denoising():
            return loaded.pipeline

    def place(self, loaded: LoadedPipeline, shape: Shape | None = None) -> Placement | Unmanaged:
        """Plan the device for a job of this pipeline and make room; the returned object brings the weights.

        Raises:
          CapabilityError: no plan has room for it.
        """
        if self._uses_offload(loaded.spec):
            self._offload(loaded)
            return Unmanaged(loaded)
        names = self._register(loaded)
        side = loaded.spec.native_side
        made = plan(
            GPU_SPECS,
            self._budget,
            Wanted(
                models=(loaded.spec.model,),
                precision=loaded.precision,
                resident=self.resident_keys(),
                shape=shape or Shape(side * side, side * side),
            ),
        )
        log.info("placed", action="place", item=names.denoiser, reason=made.reason, evict=[*map(str, made.evict)])
        self.residency.evict(map(str, made.evict))
        placement = Placement(self.residency, names, made, loaded)
        placement.prefetch()
        return placement

    def prefetch(self, residency: str | None) -> None:
        """Bring the denoiser of a model that was placed before, if it has room beside what is there."""
        names = self._names.get(residency or "")
        if names is not None:
            self.residency.prefetch([names.denoiser, *([names.modulation] if names.modulation else [])], 0)

    def resident_keys(self) -> tuple[ResidencyKey, ...]:
        """Return the models whose weights are on the device, least recently used first."""
        if self._offloaded is not None:
            return (self._offloaded,)
        return tuple(ResidencyKey.parse(name) for name in self.residency.resident() if name in self._names)

    def _register(self, loaded: LoadedPipeline) -> Names:
        """Hand the weights over to the residency, once."""
        pipeline, key = loaded.pipeline, str(loaded.key)
        if key not in self._names:
            names = self._names[key] = Names.of(loaded)
            denoiser = denoiser_of(pipeline)
            modulation = modulation_blocks(denoiser) if names.modulation else []
            apart = {weight for block in modulation for weight in block.weights}
            self.residency.add(names.denoiser, blocks_of(denoiser, apart))
            if names.modulation is not None:
                self.residency.add(names.modulation, modulation)
            encoders = [component for component in ENCODERS if component in loaded.digests]
            for component, name in zip(encoders, names.encoders, strict=True):
                self.residency.add(name, blocks_of(getattr(pipeline, component)))
            self.residency.add(names.vae, blocks_of(pipeline.vae))
        return self._names[key]

    def _forget(self, loaded: LoadedPipeline, others: Iterable[LoadedPipeline]) -> None:
        """Let go of a model that leaves host memory, and of the shared parts that none of the ``others`` has."""
        if self._offloaded == loaded.key:
            loaded.pipeline.remove_all_hooks()
            self._offloaded = None
        self._names.pop(str(loaded.key), None)
        names, kept = Names.of(loaded), {name for other in others for name in Names.of(other).shared}
        for name in (*names.own, *(name for name in names.shared if name not in kept)):
            self.residency.remove(name)

    def _uses_offload(self, spec: PipelineSpec) -> bool:
        """Whether diffusers moves this family's weights; a family shares its encoders, so it is all or none."""
        if not self.device.is_cuda or self._cpu_offload != "auto":
            return self.device.is_cuda and self._cpu_offload == "on"
        family = (other for other in CATALOG.values() if other.components_from == spec.components_from)
        return any(len(refusals(other, self._budget, other.native_side)) == len(Precision) for other in family)

    def _offload(self, loaded: LoadedPipeline) -> None:
        if self._offloaded != loaded.key:
            # Hooks belong to the pipeline that set them, and the text encoders are shared: set them anew.
            loaded.pipeline.enable_model_cpu_offload(device=self.device.torch_device)
            self._offloaded = loaded.key

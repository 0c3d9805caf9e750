"""The pipelines: each loaded at its first use, kept in host memory, and brought to the device as the plan says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog
import torch

from shared.catalog import CATALOG
from shared.domain.errors import CapabilityError, OutOfMemory
from shared.domain.model import ModelFamily, PipelineSpec
from shared.domain.params import BaseParams
from shared.domain.precision import Precision, ResidencyKey
from shared.planner import Budget, ResidencyPlan, Shape, Wanted, plan
from worker.pipelines.conditioning import expected_conditioning
from worker.pipelines.device import Device, SideStream, device_memory, free_cached_memory, keep_margin
from worker.pipelines.ladder import RETRY_SECONDS
from worker.pipelines.latent_rgb import LatentRgb, LatentRgbMaps
from worker.pipelines.latent_rgb_fit import fit_latent_rgb
from worker.pipelines.loaded_models import LoadedModels
from worker.pipelines.loader import LoadedPipeline, Loader, Pipeline, denoiser_of
from worker.pipelines.placement import Placement, Unmanaged
from worker.pipelines.planning import GPU_SPECS, machine_budget, obtainable_bytes, refusals
from worker.pipelines.prompt_cache import PromptCache
from worker.pipelines.registry import Registry
from worker.pipelines.residency import Residency
from worker.pipelines.speed import Speed
from worker.pipelines.tables import ModulationTables, Preparation
from worker.pipelines.weights import SHIPPED_LATENT_RGB, Weights

log = structlog.get_logger(__name__)

DEFAULT_PROMPT_CACHE_BYTES: Final = 512 * 2**20

_OTHERS: Final = "Other programs have the rest of the card: close them, or try again later."


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
        link_gb_per_second: float | None = None,
        prompt_cache_bytes: int = DEFAULT_PROMPT_CACHE_BYTES,
        loader: Loader | None = None,
        latent_rgb_folder: Path | None = None,
        host_bytes: int | None = None,
        speed: Speed | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cpu_offload = cpu_offload
        self.budget: Budget = machine_budget(device, link_gb_per_second, host_bytes)
        """What was free when it was measured: at first, after each shortage, and now and then."""
        self._clock = clock
        self._measured_at = clock()
        loader = loader or Loader(weights, device)
        self.reader = loader.reader
        self._loaded = LoadedModels(loader, self.budget, self._forget)
        self._offloaded: ResidencyKey | None = None
        self._latent_rgb = LatentRgbMaps(SHIPPED_LATENT_RGB, latent_rgb_folder)
        self._memory = device_memory(device, self.budget.pinnable_bytes)
        self.residency = Residency(self._memory, self.budget.usable_bytes)
        self._registry = Registry(self.residency)
        self.device = device
        self.weights = weights
        self.prompts = PromptCache(prompt_cache_bytes)
        self.tables = ModulationTables(SideStream(device))
        self.speed = speed or Speed()

    def check(self, spec: PipelineSpec, precision: Precision) -> None:
        """Return if a model can run at this precision here; nothing is loaded.

        Raises:
          ModelUnavailable: its weights are not here.
          CapabilityError: there is no room for it; the message says why.
          OutOfMemory: there would be, but others have it.
        """
        self.weights.folder(spec)
        if refused := refusals(spec, self.budget):
            self.measure()  # others may have left the card meanwhile
            refused = refusals(spec, self.budget)
        if precision in refused and not (precision is Precision.EXACT and self._uses_offload(spec)):
            if precision not in refusals(spec, self._alone):
                raise OutOfMemory(f"{refused[precision]} {_OTHERS}")
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

    def place(
        self, loaded: LoadedPipeline, shape: Shape | None = None, adapter: str | None = None
    ) -> Placement | Unmanaged:
        """Plan the device for a job of this pipeline and make room; the returned object brings the weights.

        ``adapter`` names the one that the job puts into the model: it has its room here, and brings its weights itself.

        Raises:
          CapabilityError: no plan has room for it.
          OutOfMemory: one would have, but others have it.
        """
        if self._uses_offload(loaded.spec):
            self._offload(loaded)
            return Unmanaged(loaded)
        names = self._registry.register(loaded)
        if self._clock() - self._measured_at >= RETRY_SECONDS:
            self.measure()
        key = replace(loaded.key, adapter=adapter)
        if adapter is not None:
            self._registry.add_adapter(key)
        side = loaded.spec.native_side
        made = self._plan_or_say_who(key, shape or Shape(side * side, side * side))
        log.info("placed", action="place", item=str(key), reason=made.reason, evict=[*map(str, made.evict)])
        kept = {item for warm in made.warm for item in self._registry.items(warm)}
        self.residency.evict(item for gone in made.evict for item in self._registry.items(gone) if item not in kept)
        if not made.layout.modulation_table:
            self.tables.clear()  # the plan has no room for them
        placement = Placement(self.residency, names, made, loaded, self.tables)
        self.begin(key, placement)
        return placement

    def begin(self, key: ResidencyKey, placement: Placement) -> None:
        """Tell the residency what the plan of a job needs, so that what has to leave goes in the right order."""
        made = placement.plan
        leaving = self._registry.leaving(key, made.warm, table=made.layout.modulation_table)
        self.residency.begin(leaving, placement.most_working_bytes)

    def measure(self) -> None:
        """Ask the card what this process can have of it, and keep to that from now on."""
        self._measured_at = self._clock()
        free = obtainable_bytes(self.device, self.residency.resident_bytes)
        if free is None:
            return
        keep_margin(self.device)
        before, self.budget = self.budget, replace(self.budget, gpu_free_bytes=free)
        self.residency.resize(self.budget.usable_bytes)
        if before.usable_bytes != self.budget.usable_bytes:
            log.info("card measured", action="measure", free_bytes=free, usable_bytes=self.budget.usable_bytes)

    def after_shortage(self, key: ResidencyKey, shape: Shape) -> ResidencyPlan | None:
        """Measure anew what there is; return the plan of a running job by that, ``None`` where nothing fits it.

        Call it when what the failed attempt held is gone.
        """
        free_cached_memory(self.device)
        self.measure()
        try:
            return self._plan(key, shape)
        except CapabilityError:
            return None

    def clear_device(self) -> None:
        """Take all that nobody uses off the device, and measure it."""
        self.tables.clear()
        self.residency.evict(self.residency.resident())
        free_cached_memory(self.device)
        self.measure()

    @property
    def shortage(self) -> str | None:
        """What the host's memory lacks, in words for the owner of the machine; ``None``: nothing."""
        return self._memory.shortage

    def prefetch(self, residency: str | None) -> None:
        """Bring what a job of this key needs, if it was placed before and has room beside what is there."""
        if residency is not None and (items := self._registry.items(ResidencyKey.parse(residency))):
            self.residency.prefetch_for_another(items)

    def known(self, key: ResidencyKey) -> LoadedPipeline | None:
        """Return the pipeline of a key, if it was placed before; nothing is loaded."""
        plain = replace(key, adapter=None)
        is_known = plain in self._loaded and plain in self._registry
        return self._loaded.get(CATALOG[plain.model], plain.precision) if is_known else None

    def needs_table(self, key: ResidencyKey, shape: Shape, set_aside: int) -> bool:
        """Whether a job of a key that was placed before will read a modulation table that can be made now.

        ``set_aside`` bytes are there for it; where it takes more, they must be free by chance.
        """
        try:
            made = self._plan(key, shape)
        except CapabilityError:
            return False
        return made.layout.modulation_table and self.residency.has_room(max(0, made.sizes.table - set_aside))

    def prepare_table(
        self, loaded: LoadedPipeline, params: BaseParams, pooled: Callable[[], torch.Tensor]
    ) -> Preparation | None:
        """Return what makes the table of a job beside the running one; ``None`` when it is there already.

        ``pooled`` returns the prompt's pooled embedding on the device.
        """
        names, pipeline = self._registry.register(loaded), loaded.pipeline
        modulation = names.modulation
        if modulation is None:
            return None
        return self.tables.prepare(
            names.denoiser,
            pipeline.transformer,
            lambda: expected_conditioning(pipeline, params, pooled()),
            lambda: self.residency.stream(modulation),
        )

    def latent_rgb(self, loaded: LoadedPipeline, placement: Placement | Unmanaged) -> LatentRgb | None:
        """Return the map from a pipeline's latents to colours, fitted at its VAE's first use.

        ``None`` for Stable Diffusion: what its samplers' latents say about the clean ones depends on the sampler.
        """

        def fit() -> LatentRgb:
            with placement.decoding():
                return fit_latent_rgb(loaded.pipeline.vae, self.device.torch_device)

        if loaded.spec.family is not ModelFamily.FLUX:
            return None
        return self._latent_rgb.get(loaded.digests["vae"], fit).to(self.device.torch_device)

    def resident_keys(self) -> tuple[ResidencyKey, ...]:
        """Return the models whose weights are on the device, least recently used first."""
        if self._offloaded is not None:
            return (self._offloaded,)
        return self._registry.resident_keys()

    @property
    def _alone(self) -> Budget:
        """The budget of this card if nobody else used it."""
        return replace(self.budget, gpu_free_bytes=None)

    def _plan_or_say_who(self, key: ResidencyKey, shape: Shape) -> ResidencyPlan:
        try:
            return self._plan(key, shape)
        except CapabilityError as error:
            refused = error
        self._plan(key, shape, self._alone)
        raise OutOfMemory(f"{refused.message} {_OTHERS}", pixels=shape.pixels) from refused

    def _plan(self, key: ResidencyKey, shape: Shape, budget: Budget | None = None) -> ResidencyPlan:
        name = str(replace(key, precision=Precision.EXACT))
        wanted = Wanted(models=(name,), precision=key.precision, resident=self.resident_keys(), shape=shape)
        return plan(GPU_SPECS, budget or self.budget, wanted)

    def _forget(self, loaded: LoadedPipeline, others: Iterable[LoadedPipeline]) -> None:
        """Let go of a model that leaves host memory, and of the shared parts that none of the ``others`` has."""
        if self._offloaded == loaded.key:
            loaded.pipeline.remove_all_hooks()
            self._offloaded = None
        self._registry.forget(loaded, others)

    def _uses_offload(self, spec: PipelineSpec) -> bool:
        """Whether diffusers moves this family's weights; a family shares its encoders, so it is all or none."""
        if not self.device.is_cuda or self._cpu_offload != "auto":
            return self.device.is_cuda and self._cpu_offload == "on"
        family = (other for other in CATALOG.values() if other.components_from == spec.components_from)
        return any(len(refusals(other, self.budget, other.native_side)) == len(Precision) for other in family)

    def _offload(self, loaded: LoadedPipeline) -> None:
        if self._offloaded != loaded.key:
            # Hooks belong to the pipeline that set them, and the text encoders are shared: set them anew.
            loaded.pipeline.enable_model_cpu_offload(device=self.device.torch_device)
            self._offloaded = loaded.key

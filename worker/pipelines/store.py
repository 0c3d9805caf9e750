"""The resident pipelines, each loaded at its first use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shared.catalog import CATALOG
from shared.domain.errors import CapabilityError
from shared.domain.model import PipelineSpec
from shared.domain.precision import Precision
from worker.pipelines.device import CUDA_RESERVE_BYTES, Device
from worker.pipelines.loader import LoadedPipeline, Loader, Pipeline
from worker.pipelines.planning import machine_budget, refusals
from worker.pipelines.prompt_cache import PromptCache
from worker.pipelines.weights import Weights

DEFAULT_PROMPT_CACHE_BYTES: Final = 512 * 2**20


class PipelineStore:
    """Loads each pipeline at its first use and keeps it.

    On a card that cannot hold all of them at once, diffusers' model offload takes over; ``cpu_offload``
    forces that (``on``) or forbids it (``off``).
    """

    def __init__(
        self,
        weights: Weights,
        device: Device,
        cpu_offload: str = "auto",
        link_gb_per_second: float = 25.0,
        prompt_cache_bytes: int = DEFAULT_PROMPT_CACHE_BYTES,
    ) -> None:
        self._cpu_offload = cpu_offload
        self._budget = machine_budget(device, link_gb_per_second)
        self._loader = Loader(weights, device)
        self._loaded: dict[str, LoadedPipeline] = {}
        self._placed: str | None = None
        self.device = device
        self.weights = weights
        self.prompts = PromptCache(prompt_cache_bytes)

    def check_precision(self, spec: PipelineSpec, precision: Precision) -> None:
        """Return if a model can run at this precision here.

        Raises:
          CapabilityError: it cannot; the message says why.
        """
        refused = refusals(spec, self.device, self._budget)
        offloads = precision is Precision.EXACT and self._cpu_offload != "off"
        if precision in refused and not offloads:
            raise CapabilityError(refused[precision], field="precision")

    def get(self, spec: PipelineSpec) -> Pipeline:
        """Return the pipeline of a model, ready to be called.

        Raises:
          ModelUnavailable: the weights are missing or cannot be read.
        """
        return self.load(spec).pipeline

    def load(self, spec: PipelineSpec) -> LoadedPipeline:
        """Return the pipeline of a model, ready to be called, with what it was made of.

        Raises:
          ModelUnavailable: the weights are missing or cannot be read.
        """
        loaded = self._loaded.get(spec.model)
        if loaded is None:
            loaded = self._loaded[spec.model] = self._loader.load(spec)
        self._place(loaded)
        return loaded

    def resident_models(self) -> frozenset[str]:
        """Return the models that run without their weights being read or moved to the device."""
        if self.device.is_cuda and self._needs_offload():
            return frozenset(filter(None, [self._placed]))
        return frozenset(self._loaded)

    def _place(self, loaded: LoadedPipeline) -> None:
        if not self.device.is_cuda or self._placed == loaded.spec.model:
            return
        if self._needs_offload():
            # Hooks belong to the pipeline that set them, and the text encoders are shared: set them anew.
            loaded.pipeline.enable_model_cpu_offload(device=self.device.torch_device)
        else:
            loaded.pipeline.to(self.device.torch_device)
        self._placed = loaded.spec.model

    def _needs_offload(self) -> bool:
        if self._cpu_offload != "auto":
            return self._cpu_offload == "on"
        needed = resident_bytes(CATALOG[model] for model in self._loaded)
        return needed + CUDA_RESERVE_BYTES > (self.device.total_bytes or 0)


def resident_bytes(specs: Iterable[PipelineSpec]) -> int:
    """Return the weights of these models in bytes, with shared parts counted once per group."""
    transformers_bytes = 0
    shared: dict[str, int] = {}
    for spec in specs:
        sizes = dict(spec.component_bytes)
        transformers_bytes += sizes.pop("transformer", 0)
        shared[spec.components_from] = sum(sizes.values())
    return transformers_bytes + sum(shared.values())

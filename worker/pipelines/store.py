"""The resident pipelines. Text encoders, tokenizers and VAE are loaded once per group and shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import diffusers
import structlog
import transformers
from diffusers import AutoencoderKL

from shared.catalog import CATALOG
from shared.domain.errors import CapabilityError, ModelUnavailable
from shared.domain.model import PipelineSpec
from shared.domain.precision import Precision
from worker.pipelines.device import CUDA_RESERVE_BYTES, Device
from worker.pipelines.planning import machine_budget, refusals
from worker.pipelines.weights import Weights

log = structlog.get_logger(__name__)

Pipeline = Any
"""A diffusers FLUX pipeline; diffusers' classes carry no types."""

_SHARED_CLASSES: Final[Mapping[str, Any]] = {
    "text_encoder": transformers.CLIPTextModel,
    "text_encoder_2": transformers.T5EncoderModel,
    "tokenizer": transformers.CLIPTokenizer,
    "tokenizer_2": transformers.T5Tokenizer,
    "vae": AutoencoderKL,
}


class PipelineStore:
    """Loads each pipeline at its first use and keeps it.

    On a card that cannot hold all of them at once, diffusers' model offload takes over; ``cpu_offload``
    forces that (``on``) or forbids it (``off``).
    """

    def __init__(
        self, weights: Weights, device: Device, cpu_offload: str = "auto", link_gb_per_second: float = 25.0
    ) -> None:
        self._cpu_offload = cpu_offload
        self._budget = machine_budget(device, link_gb_per_second)
        self._pipelines: dict[str, Pipeline] = {}
        self._shared: dict[str, dict[str, Any]] = {}
        self._placed: str | None = None
        self.device = device
        self.weights = weights

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
        pipeline = self._pipelines.get(spec.model)
        if pipeline is None:
            pipeline = self._load(spec)
            self._pipelines[spec.model] = pipeline
        self._place(spec, pipeline)
        return pipeline

    def resident_models(self) -> frozenset[str]:
        """Return the models that run without their weights being read or moved to the device."""
        if self.device.is_cuda and self._needs_offload():
            return frozenset(filter(None, [self._placed]))
        return frozenset(self._pipelines)

    def _load(self, spec: PipelineSpec) -> Pipeline:
        folder = self.weights.folder(spec)
        log.info("loading", action="load_model", model=spec.model, folder=str(folder))
        try:
            shared = self._shared_components(spec, folder)
            pipeline = getattr(diffusers, spec.pipeline_class).from_pretrained(
                folder, dtype=self.device.dtype, use_safetensors=True, local_files_only=True, **shared
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            log.exception("loading failed", action="load_failed", model=spec.model)
            raise ModelUnavailable(
                f"{spec.title} could not be loaded from {folder}: {error}", model=spec.model
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _shared_components(self, spec: PipelineSpec, folder: Path) -> dict[str, Any]:
        if spec.components_from not in self._shared:
            source = folder if (folder / "text_encoder_2").is_dir() else self._group_folder(spec)
            self._shared[spec.components_from] = {
                name: self._load_component(component, source / name) for name, component in _SHARED_CLASSES.items()
            }
        return self._shared[spec.components_from]

    def _load_component(self, component: Any, folder: Path) -> Any:
        if hasattr(component, "parameters"):
            return component.from_pretrained(folder, dtype=self.device.dtype, use_safetensors=True).eval()
        return component.from_pretrained(folder)

    def _group_folder(self, spec: PipelineSpec) -> Path:
        group = (other for other in CATALOG.values() if other.components_from == spec.components_from)
        for other in group:
            folder = self.weights.folder(other)
            if (folder / "text_encoder_2").is_dir():
                return folder
        raise ModelUnavailable(f"No model of {spec.title}'s family has text encoders.", model=spec.model)

    def _place(self, spec: PipelineSpec, pipeline: Pipeline) -> None:
        if not self.device.is_cuda or self._placed == spec.model:
            return
        if self._needs_offload():
            # Hooks belong to the pipeline that set them, and the text encoders are shared: set them anew.
            pipeline.enable_model_cpu_offload(device=self.device.torch_device)
        else:
            pipeline.to(self.device.torch_device)
        self._placed = spec.model

    def _needs_offload(self) -> bool:
        if self._cpu_offload != "auto":
            return self._cpu_offload == "on"
        needed = resident_bytes(CATALOG[model] for model in self._pipelines)
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

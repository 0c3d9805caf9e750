"""From weights on disk to diffusers pipelines in host memory; equal components are loaded once and shared."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import diffusers
import structlog
import transformers
from diffusers import AutoencoderKL

from shared.catalog import CATALOG
from shared.domain.acceleration import CHANNELS_LAST_DECODE, FUSED_QKV, Acceleration
from shared.domain.errors import ModelUnavailable
from shared.domain.model import ModelFamily, PipelineSpec
from shared.domain.precision import Precision, ResidencyKey
from shared.weights import revision_of
from worker.pipelines.device import Device
from worker.pipelines.digests import component_digest, quantized_digest
from worker.pipelines.error_texts import is_out_of_memory
from worker.pipelines.lossy_layout import fuse_qkv
from worker.pipelines.quantization import quantize
from worker.pipelines.weight_formats import WeightFormat, formats_for
from worker.pipelines.weight_reader import WeightReader, weight_files
from worker.pipelines.weights import Weights

log = structlog.get_logger(__name__)

Pipeline = Any
"""A diffusers pipeline; diffusers' classes carry no types."""

_SHARED_CLASSES: Final[Mapping[str, Any]] = {
    "text_encoder": transformers.CLIPTextModel,
    "text_encoder_2": transformers.T5EncoderModel,
    "tokenizer": transformers.CLIPTokenizer,
    "tokenizer_2": transformers.T5Tokenizer,
    "vae": AutoencoderKL,
}
_SAMPLERS_OF_FLUX: Final[Mapping[str, str]] = {"FlowMatchEulerDiscreteScheduler": "Euler"}
"""Users' names of the schedulers that come with a model; where a job chooses, it says the name itself."""
ENCODERS: Final = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """A pipeline, and what tells the components apart that models may share: a digest, or the one model's name.

    The digest of a quantized component is another than that of the component it was made of.
    """

    spec: PipelineSpec
    pipeline: Pipeline
    digests: Mapping[str, str]
    precision: Precision = Precision.EXACT
    accelerations: tuple[Acceleration, ...] = ()
    """What the weights' formats, and what is done only where equal bits are not promised, are called in a result."""
    revision: str | None = None
    """Commit of the repository that the weights are of; ``None`` for those that come with the project."""

    @property
    def key(self) -> ResidencyKey:
        """Under which its denoiser is known."""
        return ResidencyKey(self.spec.model, self.precision)

    @property
    def details(self) -> dict[str, Any]:
        """What a picture's metadata says of it: ``scheduler`` (diffusers' class), ``sampler``, ``model_revision``."""
        scheduler = type(self.pipeline.scheduler).__name__
        named = {"sampler": _SAMPLERS_OF_FLUX[scheduler]} if scheduler in _SAMPLERS_OF_FLUX else {}
        return {"scheduler": scheduler, "model_revision": self.revision, **named}

    @property
    def encoders(self) -> str:
        """What prompt embeddings depend on, as a text."""
        return "+".join(self.digests[name] for name in (*ENCODERS, "tokenizer", "tokenizer_2"))


def denoiser_of(pipeline: Pipeline) -> Any:
    """Return the network that denoises: FLUX calls it transformer, Stable Diffusion UNet."""
    return getattr(pipeline, "unet", None) or pipeline.transformer


def _options(spec: PipelineSpec) -> dict[str, Any]:
    options: dict[str, Any] = dict.fromkeys(spec.unused_components)
    if "safety_checker" in options:
        options["requires_safety_checker"] = False
    return options | ({"variant": spec.variant} if spec.variant else {})


def quantized(loaded: LoadedPipeline, precision: Precision, device: Device) -> LoadedPipeline:
    """Return the same pipeline at a precision; its layers are replaced, those that are so already stay."""
    formats = formats_for(precision, has_fp8=device.has_fp8)
    if not formats:
        return replace(loaded, precision=precision)
    fuse_qkv(loaded.pipeline.transformer)
    for name, weight_format in formats.items():
        quantize(getattr(loaded.pipeline, name), weight_format, device.torch_device)
    accelerations = dict.fromkeys(weight_format.acceleration for weight_format in formats.values())
    return replace(loaded, precision=precision, accelerations=(*accelerations, FUSED_QKV, CHANNELS_LAST_DECODE))


class Loader:
    """Remembers every shared component by its content, so that a model with other weights gets its own."""

    def __init__(self, weights: Weights, device: Device) -> None:
        self._weights = weights
        self._device = device
        self.reader = WeightReader()
        self._components: dict[tuple[str, str], Any] = {}

    def load(self, spec: PipelineSpec, precision: Precision = Precision.EXACT) -> LoadedPipeline:
        """Return a new pipeline in host memory; one that is not exact is quantized from the weights as published.

        Raises:
          ModelUnavailable: the weights are missing or cannot be read.
          RuntimeError: memory is short, in torch's words.
        """
        folder = self._weights.folder(spec)
        log.info("loading", action="load_model", model=spec.model, precision=precision, folder=str(folder))
        formats = formats_for(precision, has_fp8=self._device.has_fp8)
        try:
            digests, shared = self._shared(spec, folder, formats)
            pipeline = getattr(diffusers, spec.pipeline_class).from_pretrained(
                folder,
                dtype=self._device.dtype,
                use_safetensors=True,
                local_files_only=True,
                **_options(spec),
                **shared,
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise  # the weights are sound; there may be room another time
            log.exception("loading failed", action="load_failed", model=spec.model)
            raise ModelUnavailable(
                f"{spec.title} could not be loaded from {folder}: {error}", model=spec.model
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        return quantized(LoadedPipeline(spec, pipeline, digests, revision=revision_of(folder)), precision, self._device)

    def keep_only(self, digests: Collection[str]) -> None:
        """Remember shared components of these digests, and no others."""
        self._components = {key: part for key, part in self._components.items() if key[1] in digests}

    def _shared(
        self, spec: PipelineSpec, folder: Path, formats: Mapping[str, WeightFormat]
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the components that FLUX models have in common; those of other families belong to one model."""
        if spec.family is not ModelFamily.FLUX:
            self._read_ahead(spec, folder, {})
            return {name: spec.model for name in _SHARED_CLASSES if (folder / name).is_dir()}, {}
        digests = {
            name: component_digest(component, self._source(spec, folder, name))
            for name, component in _SHARED_CLASSES.items()
        }
        digests |= {
            name: quantized_digest(digests[name], weight_format.name)
            for name, weight_format in formats.items()
            if name in digests
        }
        self._read_ahead(spec, folder, digests)
        return digests, {name: self._component(name, digests[name], spec, folder) for name in _SHARED_CLASSES}

    def _read_ahead(self, spec: PipelineSpec, folder: Path, shared: Mapping[str, str]) -> None:
        """Read what is about to be loaded: the shared parts that no other model brought, then the model's own."""
        parts = [self._source(spec, folder, name) for name, digest in shared.items() if not self._has(name, digest)]
        parts += (part for part in sorted(folder.iterdir()) if part.name not in {*shared, *spec.unused_components})
        self.reader.read(spec.model, [file for part in parts for file in weight_files(part, spec.variant)])

    def _has(self, name: str, digest: str) -> bool:
        return (name, digest) in self._components

    def _component(self, name: str, digest: str, spec: PipelineSpec, folder: Path) -> Any:
        if not self._has(name, digest):
            if any(known == name for known, _ in self._components):
                log.info("not shared: other weights", action="load_component", model=spec.model, component=name)
            self._components[name, digest] = self._read(_SHARED_CLASSES[name], self._source(spec, folder, name))
        return self._components[name, digest]

    def _read(self, component: Any, folder: Path) -> Any:
        if hasattr(component, "parameters"):
            return component.from_pretrained(folder, dtype=self._device.dtype, use_safetensors=True).eval()
        return component.from_pretrained(folder)

    def _source(self, spec: PipelineSpec, folder: Path, name: str) -> Path:
        """Return the folder of a component: the model's own, else that of another model of its group."""
        if (folder / name).is_dir():
            return folder / name
        for other in CATALOG.values():
            if other.components_from == spec.components_from:
                found = self._weights.folder(other) / name
                if found.is_dir():
                    return found
        raise ModelUnavailable(f"No model of {spec.title}'s family has a {name}.", model=spec.model)

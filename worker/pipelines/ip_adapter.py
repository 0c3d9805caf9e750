"""Image-prompt adapters (IP-Adapter): loaded once, and part of a model only for the length of a job.

diffusers puts an adapter into the model itself: attention processors and an image projection. Plain jobs share that
model, and with FLUX a call without picture would then fail. So the state is taken out again after loading, and put
in and out around each job that needs it; nothing is copied or computed for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import structlog
import torch
from safetensors import SafetensorError, safe_open
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from shared.domain.adapter import IPAdapterSpec
from shared.domain.errors import ModelUnavailable
from shared.domain.model import ModelFamily
from worker.pipelines.assemble import assemble
from worker.pipelines.device_memory import blocks_of
from worker.pipelines.loader import LoadedPipeline, Pipeline, denoiser_of
from worker.pipelines.residency import Residency
from worker.pipelines.store import PipelineStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AdapterState:
    """The parts of a transformer or UNet that an adapter replaces."""

    processors: dict[str, Any]
    projection: Any
    projection_kind: str | None

    @classmethod
    def of(cls, denoiser: Any) -> Self:
        """Return the state a model is in."""
        kind = getattr(denoiser.config, "encoder_hid_dim_type", None)
        return cls(denoiser.attn_processors, getattr(denoiser, "encoder_hid_proj", None), kind)

    def module(self) -> torch.nn.Module:
        """Return all of the adapter's weights."""
        added = [part for part in self.processors.values() if isinstance(part, torch.nn.Module)]
        return torch.nn.ModuleList([self.projection, *added])

    def put_into(self, denoiser: Any) -> None:
        """Bring a model into this state."""
        denoiser.set_attn_processor(dict(self.processors))
        denoiser.encoder_hid_proj = self.projection
        denoiser.config.encoder_hid_dim_type = self.projection_kind


class LoadedAdapter:
    """An adapter for one loaded model, not part of it now; its weights come to the device when it is attached."""

    def __init__(self, residency: Residency, name: str, state: AdapterState, encoder: ImageEncoder) -> None:
        self._residency = residency
        self._name = name
        self._state = state
        self._encoder = encoder
        self.parts = {"image_encoder": encoder.model, "feature_extractor": encoder.extractor}
        """What a pipeline must be assembled with to look at a reference picture."""

    def looking(self) -> AbstractContextManager[None]:
        """Have the image encoder on the device until the block ends."""
        return self._residency.using([self._encoder.name], 0)

    @contextmanager
    def attached(self, pipeline: Pipeline, scale: float) -> Iterator[None]:
        """Make the adapter part of the pipeline's model, counting by ``scale`` (0..1), until the block ends.

        Raises:
          OutOfMemory: it does not fit beside what else is in use.
        """
        denoiser = denoiser_of(pipeline)
        plain = AdapterState.of(denoiser)
        with self._residency.using([self._name], 0):
            self._state.put_into(denoiser)
            try:
                pipeline.set_ip_adapter_scale(scale)
                yield
            finally:
                plain.put_into(denoiser)


@dataclass(frozen=True, slots=True)
class ImageEncoder:
    """CLIP's half for pictures, and what brings a picture into its form."""

    name: str
    model: Any
    extractor: CLIPImageProcessor


class IPAdapters:
    """Loads each adapter at its first use and keeps it; models that look through one image encoder share it."""

    def __init__(self, store: PipelineStore) -> None:
        self._store = store
        self._adapters: dict[str, LoadedAdapter] = {}
        self._encoders: dict[Path, ImageEncoder] = {}

    def get(self, spec: IPAdapterSpec, loaded: LoadedPipeline) -> LoadedAdapter:
        """Return the adapter for a loaded model.

        Raises:
          ModelUnavailable: its weights are missing, cannot be read, or do not fit the model.
        """
        if spec.adapter not in self._adapters:
            file, encoder_folder = self._store.weights.adapter(spec)
            log.info("loading", action="load_adapter", adapter=spec.adapter, file=str(file))
            try:
                self._adapters[spec.adapter] = self._load(spec, loaded, file, encoder_folder)
            except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
                log.exception("loading failed", action="load_failed", adapter=spec.adapter)
                raise ModelUnavailable(f"{spec.title} could not be loaded from {file}: {error}") from error
        return self._adapters[spec.adapter]

    def _load(self, spec: IPAdapterSpec, loaded: LoadedPipeline, file: Path, encoder_folder: Path) -> LoadedAdapter:
        encoder = self._encoder(encoder_folder)
        _check_layout(spec, loaded, file, encoder.model.config.projection_dim)
        parts = {"image_encoder": encoder.model, "feature_extractor": encoder.extractor}
        pipeline = assemble(loaded.spec.pipeline_class, loaded.pipeline, **parts)
        denoiser = denoiser_of(pipeline)
        plain = AdapterState.of(denoiser)
        try:
            pipeline.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name, local_files_only=True)
            state = AdapterState.of(denoiser)
        finally:
            plain.put_into(denoiser)
        adapter_weights = state.module().to(device="cpu", dtype=self._store.device.dtype)
        self._store.residency.add(spec.adapter, blocks_of(adapter_weights))
        return LoadedAdapter(self._store.residency, spec.adapter, state, encoder)

    def _encoder(self, folder: Path) -> ImageEncoder:
        if folder not in self._encoders:
            model = CLIPVisionModelWithProjection.from_pretrained(
                folder, dtype=self._store.device.dtype, use_safetensors=True, local_files_only=True
            ).eval()
            side = model.config.image_size
            extractor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
            name = f"image-encoder:{folder}"
            self._store.residency.add(name, blocks_of(model))
            self._encoders[folder] = ImageEncoder(name, model, extractor)
        return self._encoders[folder]


def _check_layout(spec: IPAdapterSpec, loaded: LoadedPipeline, file: Path, embedding_width: int) -> None:
    """Return if diffusers can read this file for this model.

    Raises:
      ModelUnavailable: it has another layout, or was made for another image encoder.
    """
    with safe_open(file, framework="pt") as weights:
        keys = set(weights.keys())
        projections = [key for key in keys if key.endswith("proj.weight") and key.count(".") == 2]
        width = weights.get_slice(projections[0]).get_shape()[-1] if projections else None
    if loaded.spec.family is ModelFamily.FLUX and not (projections and _has_flux_blocks(keys)):
        raise ModelUnavailable(
            f"{spec.title}: {file.name} is not in the layout of XLabs' FLUX adapters (one linear image projection, "
            "keys and values of the double blocks), the only one diffusers reads. InstantX's adapter for FLUX has "
            "another image encoder and other layers and does not fit. Use XLabs-AI/flux-ip-adapter (v1 or v2)."
        )
    if width is not None and width != embedding_width:
        raise ModelUnavailable(
            f"{spec.title}: {file.name} wants image embeddings of {width} values; the image encoder gives "
            f"{embedding_width}. It was made for another encoder."
        )


def _has_flux_blocks(keys: set[str]) -> bool:
    return any(key.startswith("double_blocks.") or ".to_k_ip." in key for key in keys)

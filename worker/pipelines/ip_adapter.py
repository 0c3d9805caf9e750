"""Image-prompt adapters (IP-Adapter): loaded once, and part of a model only for the length of a job.

diffusers puts an adapter into the model itself: attention processors and an image projection. Plain jobs share that
model, and with FLUX a call without picture would then fail. So the state is taken out again after loading, and put
in and out around each job that needs it; nothing is copied or computed for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import structlog
from safetensors import SafetensorError, safe_open
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from shared.domain.adapter import IPAdapterSpec
from shared.domain.errors import ModelUnavailable
from shared.domain.model import ModelFamily
from worker.pipelines.assemble import assemble
from worker.pipelines.device import Device
from worker.pipelines.loader import LoadedPipeline, Pipeline
from worker.pipelines.weights import Weights

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

    def put_into(self, denoiser: Any) -> None:
        """Bring a model into this state."""
        denoiser.set_attn_processor(dict(self.processors))
        denoiser.encoder_hid_proj = self.projection
        denoiser.config.encoder_hid_dim_type = self.projection_kind


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An adapter for one resident model, not part of it now."""

    state: AdapterState
    image_encoder: Any
    feature_extractor: CLIPImageProcessor

    @property
    def parts(self) -> dict[str, Any]:
        """What a pipeline must be assembled with to look at a reference picture."""
        return {"image_encoder": self.image_encoder, "feature_extractor": self.feature_extractor}

    @contextmanager
    def attached(self, pipeline: Pipeline, scale: float) -> Iterator[None]:
        """Make the adapter part of the pipeline's model, counting by ``scale`` (0..1), until the block ends."""
        denoiser = denoiser_of(pipeline)
        plain = AdapterState.of(denoiser)
        self.state.put_into(denoiser)
        try:
            pipeline.set_ip_adapter_scale(scale)
            yield
        finally:
            plain.put_into(denoiser)


class IPAdapters:
    """Loads each adapter at its first use and keeps it; models that look through one image encoder share it."""

    def __init__(self, weights: Weights, device: Device) -> None:
        self._weights = weights
        self._device = device
        self._adapters: dict[str, LoadedAdapter] = {}
        self._encoders: dict[Path, Any] = {}

    def get(self, spec: IPAdapterSpec, loaded: LoadedPipeline) -> LoadedAdapter:
        """Return the adapter for a resident model.

        Raises:
          ModelUnavailable: its weights are missing, cannot be read, or do not fit the model.
        """
        if spec.adapter not in self._adapters:
            file, encoder_folder = self._weights.adapter(spec)
            log.info("loading", action="load_adapter", adapter=spec.adapter, file=str(file))
            try:
                self._adapters[spec.adapter] = self._load(spec, loaded, file, encoder_folder)
            except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
                log.exception("loading failed", action="load_failed", adapter=spec.adapter)
                raise ModelUnavailable(f"{spec.title} could not be loaded from {file}: {error}") from error
        return self._adapters[spec.adapter]

    def _load(self, spec: IPAdapterSpec, loaded: LoadedPipeline, file: Path, encoder_folder: Path) -> LoadedAdapter:
        denoiser = denoiser_of(loaded.pipeline)
        encoder = self._encoder(encoder_folder)
        _check_layout(spec, loaded, file, encoder.config.projection_dim)
        side = encoder.config.image_size
        extractor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        pipeline = assemble(
            loaded.spec.pipeline_class, loaded.pipeline, image_encoder=encoder, feature_extractor=extractor
        )
        plain = AdapterState.of(denoiser)
        try:
            pipeline.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name, local_files_only=True)
            return LoadedAdapter(AdapterState.of(denoiser), encoder, extractor)
        finally:
            plain.put_into(denoiser)

    def _encoder(self, folder: Path) -> Any:
        if folder not in self._encoders:
            encoder = CLIPVisionModelWithProjection.from_pretrained(
                folder, dtype=self._device.dtype, use_safetensors=True, local_files_only=True
            )
            self._encoders[folder] = encoder.to(self._device.torch_device).eval()
        return self._encoders[folder]


def denoiser_of(pipeline: Pipeline) -> Any:
    """Return the network that denoises: FLUX calls it transformer, Stable Diffusion UNet."""
    return getattr(pipeline, "unet", None) or pipeline.transformer


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

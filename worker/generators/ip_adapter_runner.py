"""Consistent pictures with diffusers and IP-Adapter on this machine's device."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from PIL import Image

from shared.domain.model import ModelFamily, PipelineSpec
from shared.domain.params import GenerateParams
from shared.domain.status import Phase
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import GenerationContext, SilentContext
from worker.generators.stable_diffusion import StableDiffusionPainter, is_guided
from worker.pipelines.assemble import assemble, starting_from_picture
from worker.pipelines.ip_adapter import IPAdapters, LoadedAdapter
from worker.pipelines.loader import LoadedPipeline
from worker.pipelines.store import PipelineStore


class IPAdapterRunner:
    """Runs generate jobs of Stable Diffusion 1.5, SDXL and FLUX, towards a reference picture where one is given."""

    def __init__(self, store: PipelineStore) -> None:
        self._store = store
        self._adapters = IPAdapters(store.weights, store.device)
        self._flux = FluxLocalGenerator(store)
        self._stable_diffusion = StableDiffusionPainter(store.device)

    def generate_text2img(
        self,
        spec: PipelineSpec,
        params: GenerateParams,
        *,
        reference: Image.Image | None = None,
        context: GenerationContext | None = None,
    ) -> list[Image.Image]:
        """Return pictures that follow the prompt, and the RGB picture ``reference`` by ``params.ip_adapter_scale``.

        Raises:
          ModelUnavailable: weights of the model or its adapter are missing, unreadable or unfit.
          JobInterrupted, NumericError: see ``ImageGeneratorInterface.generate``; torch's own out-of-memory error.
        """
        return self._run(spec, params, None, reference, context or SilentContext())

    def generate_img2img(
        self,
        spec: PipelineSpec,
        params: GenerateParams,
        *,
        image: Image.Image,
        reference: Image.Image | None = None,
        context: GenerationContext | None = None,
    ) -> list[Image.Image]:
        """Return pictures like ``generate_text2img``, each started from ``image``, repainted by ``params.strength``.

        Raises: what ``generate_text2img`` raises.
        """
        return self._run(spec, params, image, reference, context or SilentContext())

    def warm(self, spec: PipelineSpec) -> None:
        """Load a model and its adapter, if it has one here.

        Raises:
          ModelUnavailable: weights are missing or unreadable.
        """
        loaded = self._store.load(spec)
        if spec.capabilities.ip_adapter is not None:
            self._adapters.get(spec.capabilities.ip_adapter, loaded)

    def _run(
        self,
        spec: PipelineSpec,
        params: GenerateParams,
        image: Image.Image | None,
        reference: Image.Image | None,
        context: GenerationContext,
    ) -> list[Image.Image]:
        context.on_phase(Phase.LOADING)
        resident = self._store.load(spec)
        adapter = self._adapter(spec, resident) if reference is not None else None
        parts = adapter.parts if adapter else {}
        loaded = _assembled(resident, image is not None, parts)
        pictures: dict[str, Any] = {}
        if image is not None:
            pictures |= {"image": _scaled(image, (params.width, params.height)), "strength": params.strength}
        scale = params.ip_adapter_scale or 0.0
        try:
            with adapter.attached(loaded.pipeline, scale) if adapter else nullcontext():
                if reference is not None:
                    context.on_phase(Phase.ENCODING)
                    pictures |= self._look_at(loaded, params, reference, context)
                painter = self._flux if spec.family is ModelFamily.FLUX else self._stable_diffusion
                return painter.paint(loaded, params, pictures, context)
        finally:
            resident.pipeline.maybe_free_model_hooks()

    def _adapter(self, spec: PipelineSpec, resident: LoadedPipeline) -> LoadedAdapter:
        if spec.capabilities.ip_adapter is None:
            raise ValueError(f"{spec.model} has no adapter: `resolve` refuses a reference for it")
        return self._adapters.get(spec.capabilities.ip_adapter, resident)

    @torch.no_grad()
    def _look_at(
        self, loaded: LoadedPipeline, params: GenerateParams, reference: Image.Image, context: GenerationContext
    ) -> dict[str, Any]:
        """Return the reference as embeddings, made once for all pictures of the job."""
        if reference.width != reference.height:
            context.warn("reference: the adapter sees its middle square; send a square picture to show it all")
        device = self._store.device.torch_device
        prepare = loaded.pipeline.prepare_ip_adapter_image_embeds
        if loaded.spec.family is ModelFamily.FLUX:
            embeds = prepare(reference, None, device, 1)
            # Without these diffusers encodes a black picture for each image, for a guidance that is not used.
            return {"ip_adapter_image_embeds": embeds, "negative_ip_adapter_image_embeds": embeds}
        return {"ip_adapter_image_embeds": prepare(reference, None, device, 1, is_guided(params))}


def _assembled(resident: LoadedPipeline, starts_from_picture: bool, parts: dict[str, Any]) -> LoadedPipeline:
    if starts_from_picture:
        return starting_from_picture(resident, **parts)
    if not parts:
        return resident
    pipeline = assemble(resident.spec.pipeline_class, resident.pipeline, **parts)
    return LoadedPipeline(resident.spec, pipeline, resident.digests)


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)

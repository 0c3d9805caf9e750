"""Consistent pictures with diffusers and IP-Adapter on this machine's device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from shared.domain.adapter import IPAdapterSpec
from shared.domain.conditioning import is_guided
from shared.domain.model import ModelFamily, PipelineSpec
from shared.domain.params import BaseParams, GenerateParams
from shared.domain.precision import Precision
from worker.generators.filling import scaled
from worker.generators.flux_local import FluxCalls
from worker.generators.interface import GenerationContext, SilentContext
from worker.generators.painter import Guide, Look, Painter, PipelineCalls
from worker.generators.stable_diffusion import StableDiffusionCalls
from worker.pipelines.assemble import assemble
from worker.pipelines.ip_adapter import IPAdapters
from worker.pipelines.loader import LoadedPipeline, Pipeline
from worker.pipelines.store import PipelineStore


class IPAdapterRunner:
    """Runs generate jobs of Stable Diffusion 1.5, SDXL and FLUX, towards a reference picture where one is given."""

    def __init__(self, store: PipelineStore) -> None:
        self.painter = Painter(store)
        self._store = store
        self._adapters = IPAdapters(store)
        stable_diffusion = StableDiffusionCalls(store.device)
        self._calls: dict[ModelFamily, PipelineCalls] = {
            ModelFamily.FLUX: FluxCalls(store),
            ModelFamily.STABLE_DIFFUSION: stable_diffusion,
            ModelFamily.STABLE_DIFFUSION_XL: stable_diffusion,
        }

    def generate_text2img(
        self,
        spec: PipelineSpec,
        params: GenerateParams,
        *,
        reference: Image.Image | None = None,
        context: GenerationContext | None = None,
    ) -> list[Image.Image]:
        """Return pictures that follow the prompt, and the RGB picture ``reference`` by ``params.ip_adapter_scale``.

        Raises: what ``ImageGeneratorInterface.generate`` raises.
        """
        return self._run(spec, params, {}, reference, context or SilentContext())

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

        Raises: what ``ImageGeneratorInterface.generate`` raises.
        """
        pictures = {"image": scaled(image, (params.width, params.height)), "strength": params.strength}
        return self._run(spec, params, pictures, reference, context or SilentContext())

    def warm(self, spec: PipelineSpec, precision: Precision = Precision.EXACT) -> None:
        """Put a model on the device, and load its adapter, if it has one.

        Raises:
          ModelUnavailable: weights are missing, unreadable or unfit.
        """
        self._store.get(spec, precision)
        if spec.capabilities.ip_adapter is not None:
            self._adapters.get(spec.capabilities.ip_adapter, self._store.load(spec, precision))

    def _run(
        self,
        spec: PipelineSpec,
        params: GenerateParams,
        pictures: dict[str, Any],
        reference: Image.Image | None,
        context: GenerationContext,
    ) -> list[Image.Image]:
        calls = self._calls[spec.family]
        adapter = spec.capabilities.ip_adapter
        if reference is None:
            return self.painter.paint(calls, spec, params, pictures, context)
        if adapter is None:
            raise ValueError(f"{spec.model} has no adapter: `resolve` refuses a reference for it")
        if reference.width != reference.height:
            context.warn("reference: the adapter sees its middle square; send a square picture to show it all")
        context.on_details({"ip_adapter": adapter.name})
        guide = self._following(adapter, reference)
        return self.painter.paint(calls, spec, params, pictures, context, guide, adapter.name)

    def _following(self, spec: IPAdapterSpec, reference: Image.Image) -> Guide:
        """Return what dresses a pipeline so that its pictures follow ``reference``."""

        @contextmanager
        def guide(runs: LoadedPipeline, params: BaseParams) -> Iterator[tuple[LoadedPipeline, Look]]:
            scale = params.ip_adapter_scale if isinstance(params, GenerateParams) else None
            adapter = self._adapters.get(spec, self._store.load(runs.spec, runs.precision))
            pipeline = assemble(type(runs.pipeline).__name__, runs.pipeline, **adapter.parts)

            @torch.no_grad()
            def look() -> dict[str, Any]:
                with adapter.looking():
                    return self._embed(pipeline, runs.spec, params, reference)

            with adapter.attached(pipeline, scale or 0.0):
                yield replace(runs, pipeline=pipeline), look

        return guide

    def _embed(
        self, pipeline: Pipeline, spec: PipelineSpec, params: BaseParams, reference: Image.Image
    ) -> dict[str, Any]:
        """Return the reference as arguments of the call, made once for all pictures of the job."""
        device, prepare = self._store.device.torch_device, pipeline.prepare_ip_adapter_image_embeds
        if spec.family is ModelFamily.FLUX:
            embeds = prepare(reference, None, device, 1)
            # Without these diffusers encodes a black picture for each image, for a guidance that is not used.
            return {"ip_adapter_image_embeds": embeds, "negative_ip_adapter_image_embeds": embeds}
        return {"ip_adapter_image_embeds": prepare(reference, None, device, 1, is_guided(params))}

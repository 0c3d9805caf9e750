"""One job on one pipeline: bring the weights phase by phase, denoise image after image, give up what memory lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from PIL import Image

from shared.domain.model import PipelineSpec
from shared.domain.params import BaseParams, JobKind
from shared.domain.precision import ResidencyKey
from shared.domain.status import Phase
from shared.planner import Shape
from worker.generators.ahead import Ahead
from worker.generators.climb import Climb, on_a_clear_device
from worker.generators.interface import Foresight, GenerationContext, nothing_foreseen
from worker.pipelines.assemble import starting_from_picture
from worker.pipelines.conditioning import expected_conditioning
from worker.pipelines.decode import decode_latents
from worker.pipelines.device import StepPacer
from worker.pipelines.device_errors import device_faults
from worker.pipelines.ladder import JobShape, Ladder
from worker.pipelines.loader import LoadedPipeline, Pipeline, denoiser_of
from worker.pipelines.placement import Placement, Unmanaged
from worker.pipelines.preview import Previewer
from worker.pipelines.step_cache import accelerations_of, step_cache
from worker.pipelines.store import PipelineStore

Look = Callable[[], dict[str, Any]]
"""Returns arguments of the call that come of a reference picture."""

Finish = Callable[[Image.Image], Image.Image]
"""Makes the result of what the model painted."""

Guide = Callable[[LoadedPipeline, BaseParams], AbstractContextManager[tuple[LoadedPipeline, Look]]]
"""Dresses a pipeline for the length of a job: yields the one to run, and how to look at the reference."""


class PipelineCalls(Protocol):
    """What differs between the families of models: how their pipelines are called."""

    def prepare(self, loaded: LoadedPipeline, params: Any, context: GenerationContext) -> LoadedPipeline:
        """Return the pipeline to run, and warn of what will have no effect."""

    def encode(self, loaded: LoadedPipeline, placement: Placement | Unmanaged, params: Any) -> dict[str, Any]:
        """Return the prompt as arguments of the call."""

    def arguments(self, loaded: LoadedPipeline, params: Any, starts_from_picture: bool) -> dict[str, Any]:
        """Return the other arguments of the call."""


class Painter:
    """Runs jobs on the pipelines of a store; remembers per shape of job what had to be given up."""

    def __init__(self, store: PipelineStore) -> None:
        self.store = store
        self.ladder = Ladder()
        self.foresight: Foresight = nothing_foreseen
        """Whom to ask what the next job probably is; what it needs is brought or made early where there is room."""

    def paint(
        self,
        calls: PipelineCalls,
        spec: PipelineSpec,
        params: BaseParams,
        pictures: dict[str, Any],
        context: GenerationContext,
        guide: Guide | None = None,
        adapter: str | None = None,
        finish: Finish = lambda painted: painted,
    ) -> list[Image.Image]:
        """Return the pictures; ``pictures`` are the pipeline's arguments that come of pictures.

        Raises: what ``ImageGeneratorInterface.generate`` raises.
        """
        context.on_phase(Phase.LOADING)
        shape = _shape(params, pictures)
        with device_faults(self.store.device.check):
            loaded = on_a_clear_device(self.store, lambda: self.store.load(spec, params.precision))
            try:
                placement = self.store.place(loaded, shape, adapter)
                job = JobShape(ResidencyKey(spec.model, params.precision, adapter), shape)
                climb = Climb(self.ladder, job, placement, context, self.store)
                starts_from_picture = spec.kind is JobKind.GENERATE and "image" in pictures
                runs = starting_from_picture(loaded) if starts_from_picture else loaded
                ahead = Ahead(self.store, calls, loaded, placement, self.foresight)
                with ExitStack() as stack, closing(ahead):
                    dress = guide or _unguided
                    guided, look = climb.until_it_fits(lambda: stack.enter_context(dress(runs, params)))
                    return self._run(calls, climb, guided, params, pictures, look, ahead, finish)
            finally:
                loaded.pipeline.maybe_free_model_hooks()

    def _run(
        self,
        calls: PipelineCalls,
        climb: Climb,
        loaded: LoadedPipeline,
        params: BaseParams,
        pictures: dict[str, Any],
        look: Look,
        ahead: Ahead,
        finish: Finish,
    ) -> list[Image.Image]:
        placement, context, moved = climb.placement, climb.context, self.store.residency.brought_bytes
        start_preview = self._previewing(climb, loaded, params)
        context.on_phase(Phase.ENCODING)
        loaded = calls.prepare(loaded, params, context)
        context.on_details(loaded.details)
        for acceleration in accelerations_of(params):
            context.on_acceleration(acceleration)
        self.store.speed.begin_job(denoiser_of(loaded.pipeline))
        inputs = pictures | calls.arguments(loaded, params, "image" in pictures)
        inputs |= climb.until_it_fits(look)
        inputs |= climb.until_it_fits(lambda: calls.encode(loaded, placement, params))
        climb.until_it_fits(lambda: self._make_table(loaded, placement, params, inputs))
        ahead.encode()

        def paint(index: int) -> Image.Image:
            context.on_phase(Phase.DENOISING)
            with placement.denoising():
                ahead.bring()
                if index == 0:
                    ahead.begin()
                latents = self._denoise(loaded.pipeline, params, index, inputs, context, start_preview(), ahead)
            context.on_phase(Phase.DECODING)
            with placement.decoding():
                return decode_latents(loaded, latents, params.width, params.height)

        images = []
        for index in range(params.num_images):
            image = finish(climb.until_it_fits(partial(paint, index)))
            self._tell_speed(denoiser_of(loaded.pipeline), context)
            context.on_image(index, image)
            images.append(image)
        climb.done()
        if self.store.shortage is not None and self.store.residency.brought_bytes > moved:
            context.warn(self.store.shortage)
        return images

    @staticmethod
    def _make_table(
        loaded: LoadedPipeline, placement: Placement | Unmanaged, params: BaseParams, inputs: dict[str, Any]
    ) -> None:
        """Make what the first step reads before the weights of the denoiser set out."""
        placement.make_table(lambda: expected_conditioning(loaded.pipeline, params, inputs["pooled_prompt_embeds"]))

    def _previewing(self, climb: Climb, loaded: LoadedPipeline, params: BaseParams) -> Callable[[], Previewer | None]:
        """Return what follows the making of one image, and shows it where somebody wants to see it."""
        sink = climb.context.previews
        rgb = climb.until_it_fits(lambda: self.store.latent_rgb(loaded, climb.placement)) if sink else None
        if sink is None or rgb is None:
            return lambda: None
        return partial(Previewer, rgb, sink, self.store.device, params.width, params.height)

    def _tell_speed(self, denoiser: Any, context: GenerationContext) -> None:
        for acceleration in self.store.speed.used(denoiser):
            context.on_acceleration(acceleration)
        if warning := self.store.speed.warning(denoiser):
            context.warn(warning)

    def _denoise(
        self,
        pipeline: Pipeline,
        params: BaseParams,
        index: int,
        inputs: dict[str, Any],
        context: GenerationContext,
        previewer: Previewer | None,
        ahead: Ahead,
    ) -> torch.Tensor:
        pacer = StepPacer(self.store.device)

        def on_step_end(running: Pipeline, step: int, _timestep: object, kwargs: dict[str, Any]) -> dict[str, Any]:
            pacer.step_done()
            if previewer is not None:
                previewer.step_done(running, kwargs["latents"])
            ahead.step_done((step + 1) / running.num_timesteps)
            context.on_step(step + 1, running.num_timesteps)
            return kwargs

        with step_cache(denoiser_of(pipeline), params):
            result = pipeline(
                num_inference_steps=params.num_inference_steps,
                guidance_scale=params.guidance_scale,
                # On the CPU, so that a seed means the same picture on every card.
                generator=torch.Generator("cpu").manual_seed(params.seed + index),
                callback_on_step_end=on_step_end,
                output_type="latent",
                return_dict=False,
                **inputs,
            )
        latents: torch.Tensor = result[0]
        return latents


@contextmanager
def _unguided(loaded: LoadedPipeline, _params: BaseParams) -> Iterator[tuple[LoadedPipeline, Look]]:
    yield loaded, dict


def _shape(params: BaseParams, pictures: dict[str, Any]) -> Shape:
    source = pictures.get("image")
    return Shape(params.width * params.height, source.width * source.height if source else 0)

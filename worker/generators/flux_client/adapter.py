"""Remote generation behind the interface of all generators."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Unpack

from PIL import Image

from shared.catalog import find_model
from shared.domain.capabilities import resolve
from shared.domain.errors import CapabilityError, MediaError
from shared.domain.model import PipelineSpec
from shared.domain.params import BaseParams, FillParams, JobKind
from shared.domain.precision import Precision
from shared.domain.status import Phase
from shared.settings import RemoteSettings
from worker.generators.filling import FillCanvas, at_grid
from worker.generators.flux_client.availability import Availability
from worker.generators.flux_client.space import FluxImageGenerator
from worker.generators.interface import (
    PICTURES,
    GenerationContext,
    GenerationOptions,
    ImageGeneratorInterface,
    SilentContext,
)


class FluxClientAdapter(ImageGeneratorInterface):
    """Sends jobs for one model to the Space that runs it: one call per image, one session per job."""

    def __init__(self, space: FluxImageGenerator, spec: PipelineSpec) -> None:
        self._space = space
        self._spec = spec

    @classmethod
    def from_settings(cls, settings: RemoteSettings) -> FluxClientAdapter | None:
        """Return the adapter for the configured Space, or ``None`` when there is none."""
        if settings.remote_space is None or (spec := settings.remote_spec) is None:
            return None
        space = FluxImageGenerator(
            settings.remote_space,
            settings.remote_token.get_secret_value() if settings.remote_token else None,
            api_name=settings.remote_api_name,
            connect_seconds=settings.remote_connect_seconds,
            call_seconds=settings.remote_call_seconds,
        )
        return cls(space, spec)

    def availability(self) -> Availability:
        """Return whether a job would run now, as far as is known; asks nobody."""
        return self._space.availability()

    def warm(self, model: str, precision: Precision = Precision.EXACT) -> None:  # noqa: ARG002
        """Connect once, so that ``availability`` knows; there is nothing to load here."""
        self._check_model(model)
        try:
            self._space.connect()
        finally:
            self._space.close()

    def generate(
        self, prompt: str, *, context: GenerationContext | None = None, **options: Unpack[GenerationOptions]
    ) -> list[Image.Image]:
        """Return the pictures; see ``ImageGeneratorInterface.generate``."""
        context = context or SilentContext()
        asked = {name: value for name, value in options.items() if value is not None}
        self._check_model(str(asked.pop("model", self._spec.model)))
        params, implied = self._resolve(prompt, asked)
        pictures = {name: value for name, value in asked.items() if name in PICTURES}
        if canvas := _canvas(params, options):
            pictures["image"], pictures["mask"] = canvas.padded()
            params, implied = at_grid(params), at_grid(implied)
        values = params.model_dump(exclude={"kind", "prompt", "seed", "num_images"}, exclude_none=True)
        images = []
        try:
            for index in range(params.num_images):
                context.on_phase(Phase.LOADING)
                if index == 0:
                    self._space.connect(context)
                options_of_image = {**values, **pictures, "seed": params.seed + index}
                image = self._space.generate_image(
                    prompt, context=context, implied=implied.model_dump(), **options_of_image
                )
                if canvas is not None and image.size == canvas.grid_size:
                    image = canvas.finish(image)
                context.on_image(index, image)
                images.append(image)
        finally:
            self._space.close()
        return images

    def _resolve(self, prompt: str, asked: Mapping[str, Any]) -> tuple[BaseParams, BaseParams]:
        """Return the job's parameters, and those of a job that asks for nothing but the prompt."""
        source = asked.get("image")
        if source is None and self._spec.kind is not JobKind.GENERATE:
            raise MediaError(f"A {self._spec.kind.value} job needs an image.", field="image")
        wanted = partial(
            resolve,
            self._spec,
            self._spec.kind,
            source_size=source.size if source is not None else None,
            has_reference="reference" in asked,
        )
        values = {name: value for name, value in asked.items() if name not in PICTURES}
        return wanted(asked={**values, "prompt": prompt}).params, wanted(asked={"prompt": prompt}).params

    def _check_model(self, model: str) -> None:
        if find_model(model).model != self._spec.model:
            raise CapabilityError(
                f"The Space {self._space.src} runs {self._spec.model}, not {model}.",
                field="model",
                limit=self._spec.model,
            )


def _canvas(params: BaseParams, options: GenerationOptions) -> FillCanvas | None:
    """Return what a fill works on, ``None`` for other jobs."""
    image, mask = options.get("image"), options.get("mask")
    if not isinstance(params, FillParams) or image is None or mask is None:
        return None
    return FillCanvas.of(image, mask, params)

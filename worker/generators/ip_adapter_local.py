"""Consistent generation behind the common interface: `IPAdapterRunner` with the jobs' checks and errors."""

from __future__ import annotations

from typing import Unpack

from PIL import Image

from shared.catalog import find_model
from shared.domain.errors import CapabilityError
from shared.domain.params import GenerateParams
from shared.domain.precision import Precision
from worker.generators.interface import Foresight, GenerationContext, GenerationOptions, ImageGeneratorInterface
from worker.generators.ip_adapter_runner import IPAdapterRunner
from worker.generators.options import resolve_options
from worker.pipelines.store import PipelineStore


class IPAdapterLocalAdapter(ImageGeneratorInterface):
    """Generate jobs that keep a character or style, on this machine; the models are those of the catalog."""

    def __init__(self, store: PipelineStore) -> None:
        self._store = store
        self._runner = IPAdapterRunner(store)

    def warm(self, model: str, precision: Precision = Precision.EXACT) -> None:
        """Load a model with its adapter; see ``ImageGeneratorInterface.warm``."""
        self._runner.warm(find_model(model), precision)

    def expect(self, foresight: Foresight) -> None:
        """Remember whom to ask what to get ready for; see ``ImageGeneratorInterface.expect``."""
        self._runner.painter.foresight = foresight

    def resident(self) -> frozenset[str]:
        """Return the keys of what is loaded; see ``ImageGeneratorInterface.resident``."""
        return frozenset(map(str, self._store.resident_keys()))

    def generate(
        self, prompt: str, *, context: GenerationContext | None = None, **options: Unpack[GenerationOptions]
    ) -> list[Image.Image]:
        """Return the pictures; see ``ImageGeneratorInterface.generate``."""
        spec = find_model(options.get("model", "dev"))
        params = resolve_options(spec, prompt, options)
        if not isinstance(params, GenerateParams):
            raise CapabilityError(
                f"model: {spec.model} changes pictures; consistent generation paints new ones.",
                field="model",
                limit=None,
            )
        self._store.check(spec, params.precision)
        image, reference = options.get("image"), options.get("reference")
        if image is None:
            return self._runner.generate_text2img(spec, params, reference=reference, context=context)
        return self._runner.generate_img2img(spec, params, image=image, reference=reference, context=context)

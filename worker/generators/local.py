"""All that this machine's device paints, behind one generator: a job goes to the one that can do it."""

from __future__ import annotations

from typing import Unpack

from PIL import Image

from shared.catalog import find_model
from shared.domain.model import ModelFamily
from shared.domain.precision import Precision
from worker.generators.flux_local import FluxLocalGenerator
from worker.generators.interface import Foresight, GenerationContext, GenerationOptions, ImageGeneratorInterface
from worker.generators.ip_adapter_local import IPAdapterLocalAdapter
from worker.pipelines.store import PipelineStore
from worker.pipelines.weight_reader import Listener


class LocalGenerator(ImageGeneratorInterface):
    """FLUX by words alone, and whatever follows a reference picture or is Stable Diffusion, from one store."""

    def __init__(self, store: PipelineStore) -> None:
        self._store = store
        self._flux = FluxLocalGenerator(store)
        self._consistent = IPAdapterLocalAdapter(store)

    def warm(self, model: str, precision: Precision = Precision.EXACT) -> None:
        """Put a model on the device for jobs by words alone; see ``ImageGeneratorInterface.warm``."""
        self._flux.warm(model, precision)

    def expect(self, foresight: Foresight) -> None:
        """Remember whom to ask what to get ready for; see ``ImageGeneratorInterface.expect``."""
        self._flux.expect(foresight)
        self._consistent.expect(foresight)

    def tell_loading(self, listener: Listener) -> None:
        """Tell how far weights are read; see ``ImageGeneratorInterface.tell_loading``."""
        self._store.reader.listener = listener

    def resident(self) -> frozenset[str]:
        """Return the keys of what is loaded; see ``ImageGeneratorInterface.resident``."""
        return self._flux.resident()

    def generate(
        self, prompt: str, *, context: GenerationContext | None = None, **options: Unpack[GenerationOptions]
    ) -> list[Image.Image]:
        """Return the pictures; see ``ImageGeneratorInterface.generate``."""
        spec = find_model(options.get("model", "demo"))
        follows = "reference" in options or spec.family is not ModelFamily.FLUX
        chosen = self._consistent if follows else self._flux
        return chosen.generate(prompt, context=context, **options)

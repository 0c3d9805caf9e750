"""The only thing the runner knows about models: ask for pictures, be told of each step and each picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypedDict, Unpack, cast

from PIL import Image

from shared.domain.acceleration import Acceleration, StepCache
from shared.domain.job import NextJob
from shared.domain.precision import Precision
from shared.domain.prompt_config import PromptConfig
from shared.domain.status import Phase
from worker.pipelines.weight_reader import Listener


class GenerationOptions(TypedDict, total=False):
    """Keyword arguments of ``generate``; names and units are diffusers' own."""

    model: str
    image: Image.Image
    """Source picture of an edit or a fill, or what a generate job starts from instead of noise; RGB."""
    mask: Image.Image
    """Region of a fill, mode L, size of ``image``; white is repainted."""
    reference: Image.Image
    """Picture whose character or style a generate job keeps; RGB."""
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    """Seed of the first image; image ``i`` uses ``seed + i``."""
    num_images: int
    precision: Precision
    negative_prompt: str
    sampler: str
    """One of ``shared.domain.samplers.SAMPLERS``."""
    strength: float
    """Share of the denoising that ``image`` goes through in a generate job, 0..1."""
    ip_adapter_scale: float
    """How much ``reference`` counts, 0..1."""
    step_cache: StepCache
    step_cache_threshold: float
    """Relative change of the first block's output below which a step is skipped, 0..1."""


Foresight = Callable[[], NextJob | None]
"""Says what the next job probably is, if anything."""


def nothing_foreseen() -> NextJob | None:
    """Know nothing of the next job."""
    return None


PICTURES: Final = ("image", "mask", "reference")
"""Options that are pictures; the others, but for ``model``, are parameters of the job."""


class PreviewSink(Protocol):
    """Takes pictures of the work in progress; whatever becomes of them never harms the work."""

    def is_due(self) -> bool:
        """Whether one is wanted now."""

    def offer(self, render: Callable[[], Image.Image]) -> None:
        """Show what ``render`` returns, an RGB picture; it is called once, in another thread."""


class GenerationContext(Protocol):
    """How a generator talks to the job it works for. Any method may raise ``JobInterrupted``."""

    @property
    def previews(self) -> PreviewSink | None:
        """Where pictures of the work in progress go; ``None`` where nobody wants them."""

    def on_phase(self, phase: Phase) -> None:
        """A new part of the work begins; ``Phase.SAVING`` is not the generator's to report."""

    def on_step(self, step: int, total_steps: int) -> None:
        """Denoising step ``step`` of ``total_steps`` (1-based) of the current image is done."""

    def on_queue(self, position: int, eta_seconds: float | None) -> None:
        """The current image is on another server, where ``position`` others go first (0: it is next, or made now).

        Reported again and again, as a sign of life between two steps.
        """

    def on_image(self, index: int, image: Image.Image) -> None:
        """Image ``index`` (0-based) is finished, its pixels on the host; it is saved while the work goes on."""

    def warn(self, message: str) -> None:
        """The caller should know this; it does not stop the work."""

    def on_acceleration(self, acceleration: Acceleration) -> None:
        """The pictures are made with this technique; it is named in the result."""

    def on_details(self, details: Mapping[str, Any]) -> None:
        """What only the generator knows about the pictures that follow, by its name in their files' metadata.

        Such as ``scheduler``, ``model_revision``, ``ip_adapter``, or the ``seed`` that a Space used; ``None``: unknown.
        """

    def raise_if_cancelled(self) -> None:
        """Raise ``JobInterrupted`` when the work should stop."""


class SilentContext:
    """A context for callers without a job: nothing is reported, nothing is cancelled."""

    previews: PreviewSink | None = None

    def on_phase(self, phase: Phase) -> None:
        """Ignore."""

    def on_step(self, step: int, total_steps: int) -> None:
        """Ignore."""

    def on_queue(self, position: int, eta_seconds: float | None) -> None:
        """Ignore."""

    def on_image(self, index: int, image: Image.Image) -> None:
        """Ignore."""

    def warn(self, message: str) -> None:
        """Ignore."""

    def on_acceleration(self, acceleration: Acceleration) -> None:
        """Ignore."""

    def on_details(self, details: Mapping[str, Any]) -> None:
        """Ignore."""

    def raise_if_cancelled(self) -> None:
        """Go on."""


class ImageGeneratorInterface(ABC):
    """Turns a prompt and options into pictures."""

    @abstractmethod
    def generate(
        self, prompt: str, *, context: GenerationContext | None = None, **options: Unpack[GenerationOptions]
    ) -> list[Image.Image]:
        """Return ``num_images`` RGB pictures, in seed order, after telling ``context`` of each.

        Raises:
          JobInterrupted: at the first step or phase boundary after ``context`` asked to stop.
          CapabilityError: this generator cannot do what is asked; nothing was computed.
          ModelUnavailable: the weights are not there.
          OutOfMemory: the device cannot hold the job.
          NumericError: the model produced no picture (NaN).
          DeviceLost: the device takes no more work from this process, which has to be replaced.
          RemoteUnavailable, QuotaExceeded, RemoteRefused, RemoteFailed: from a generator on another machine.
        """

    def generate_from(
        self,
        config: PromptConfig,
        *,
        context: GenerationContext | None = None,
        **options: Unpack[GenerationOptions],
    ) -> list[Image.Image]:
        """Return the pictures for a ``PromptConfig``; ``options`` add what it has no word for, or replace its values.

        Raises: what ``generate`` raises.
        """
        context = context or SilentContext()
        if note := config.warning():
            context.warn(note)
        if config.enhance_prompt_option:
            context.warn("enhance_prompt_option: prompts are enhanced where jobs are submitted; this one was not")
        merged = cast(GenerationOptions, {**config.options(), **options})
        return self.generate(config.prompt, context=context, **merged)

    @abstractmethod
    def warm(self, model: str, precision: Precision = Precision.EXACT) -> None:
        """Load a model ahead of its first job at a precision.

        Raises:
          ModelUnavailable: the weights are not there.
        """

    def resident(self) -> frozenset[str]:
        """Return the residency keys of what is loaded now: jobs with one of them start without loading weights."""
        return frozenset()

    def expect(self, foresight: Foresight) -> None:  # noqa: B027  # nobody has to implement a hint
        """Hear whom to ask what the next job probably is: whoever can gets ready for it beside the current one.

        A hint, called before ``generate``; nothing has to come of it, and who cannot get ready does not ask.
        """

    def tell_loading(self, listener: Listener) -> None:  # noqa: B027  # whoever loads nothing has nothing to tell
        """Tell ``listener`` how far weights are read, from now on; what it raises ends the loading.

        A hint, too: called before anything is loaded.
        """

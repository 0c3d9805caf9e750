"""What a job asks of a model, fully resolved: every value is concrete before the job is stored."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.domain.acceleration import StepCache
from shared.domain.output_format import OutputFormat
from shared.domain.precision import Precision

MAX_PROMPT_CHARACTERS: Final = 4000
MAX_IMAGES: Final = 8
MAX_SEED: Final = 2**53 - 1 - MAX_IMAGES
"""The largest base seed: every ``seed + index`` stays an exact integer in JavaScript."""

RANDOM_SEED: Final = -1
"""What a caller may write for "draw one", as in other programs; a job always holds the seed that was drawn."""

SIDE_MULTIPLE: Final = 16
"""FLUX packs 2 x 2 latents of an 8-fold VAE, so both sides are multiples of 16 pixels."""

MASK_THRESHOLD: Final = 128
"""Grey values of a mask from here on, 0..255, are white: repainted."""


class JobKind(StrEnum):
    """What is done: a new picture, an instruction on a picture, or a repainted region."""

    GENERATE = "generate"
    EDIT = "edit"
    FILL = "fill"


class InputRole(StrEnum):
    """What an uploaded picture is to its job."""

    IMAGE = "image"
    MASK = "mask"
    REFERENCE = "reference"
    """What an image-prompt adapter looks at: the character or style to keep."""


class BaseParams(BaseModel):
    """What every kind has in common. Names are diffusers' own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)
    num_inference_steps: int = Field(ge=1)
    guidance_scale: float = Field(ge=0, allow_inf_nan=False)
    width: int = Field(gt=0, multiple_of=SIDE_MULTIPLE, description="pixels")
    height: int = Field(gt=0, multiple_of=SIDE_MULTIPLE, description="pixels")
    seed: int = Field(ge=0, le=MAX_SEED, description="seed of the first image; image i uses seed + i")
    num_images: int = Field(default=1, ge=1, le=MAX_IMAGES)
    precision: Precision = Precision.EXACT
    output_format: OutputFormat = OutputFormat.PNG
    step_cache: StepCache | None = None
    """Unset: every step is computed."""
    step_cache_threshold: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """Relative change of the first block's output below which a step is skipped; unset without a cache."""

    @property
    def grid_size(self) -> tuple[int, int]:
        """The (width, height) in pixels that the model works at: the result's, rounded up to its grid."""
        return on_grid((self.width, self.height))


class GenerateParams(BaseParams):
    """Text to image, from an init picture (input ``image``) or towards a picture (input ``reference``) where asked.

    The optional fields are unset where the model has no such thing or the job no such picture.
    """

    kind: Literal[JobKind.GENERATE] = JobKind.GENERATE
    negative_prompt: str | None = Field(default=None, max_length=MAX_PROMPT_CHARACTERS)
    sampler: str | None = None
    strength: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """Share of the denoising that an init picture goes through: 1 keeps nothing of it."""
    ip_adapter_scale: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """How much the reference picture counts beside the words; 0: not at all."""


class EditParams(BaseParams):
    """Image and instruction to edited image; the job has one input, role ``image``."""

    kind: Literal[JobKind.EDIT] = JobKind.EDIT


class FillParams(BaseParams):
    """Image and mask to repainted image; inputs ``image`` and ``mask`` (white = repaint).

    The result may have any size: its picture is padded to the model's grid, and cropped again.
    """

    kind: Literal[JobKind.FILL] = JobKind.FILL
    width: int = Field(gt=0, description="pixels")
    height: int = Field(gt=0, description="pixels")


def on_grid(size: tuple[int, int]) -> tuple[int, int]:
    """Return a (width, height) in pixels with both sides rounded up to multiples of ``SIDE_MULTIPLE``."""
    width, height = (-(-side // SIDE_MULTIPLE) * SIDE_MULTIPLE for side in size)
    return width, height


JobParams = Annotated[GenerateParams | EditParams | FillParams, Field(discriminator="kind")]

PARAMS_ADAPTER: TypeAdapter[JobParams] = TypeAdapter(JobParams)
"""Reads stored parameters back into the class of their kind."""

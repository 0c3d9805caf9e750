"""A picture's parameters in the words that users of Stable Diffusion know, shared by all generators and clients."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Final, Self, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from shared.domain.errors import RequestError
from shared.domain.params import MAX_PROMPT_CHARACTERS, MAX_SEED, RANDOM_SEED, BaseParams

_JOB_NAMES: Final = {
    "negative_prompt": "negative_prompt",
    "steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
    "sampler": "sampler",
    "strength": "strength",
}
"""What a job calls the fields that models have defaults of their own for."""


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """What to paint and how.

    A field that has its default here takes the chosen model's own default (35 steps at scale 7 would be wrong for
    most FLUX models); ``warning`` says so. Any other value is used, or refused by the model's capabilities. The
    seed has no such default: 42 means 42, and -1 means one that is drawn.

    Raises:
      RequestError: a value is outside its range; names the field.
    """

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)]
    negative_prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] = ""
    steps: Annotated[int, Field(ge=1)] = 35
    cfg_scale: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 7.0
    seed: Annotated[int, Field(ge=RANDOM_SEED, le=MAX_SEED)] = 42
    sampler: Annotated[str, Field(min_length=1, max_length=64)] = "DPM++ 2M Karras"
    strength: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.7
    enhance_prompt_option: bool = False

    def __post_init__(self) -> None:
        for name, check in _checks().items():
            try:
                check.validate_python(getattr(self, name), strict=True)
            except ValidationError as error:
                raise RequestError(f"{name}: {error.errors()[0]['msg']}.", field=name) from error

    def options(self) -> dict[str, Any]:
        """Return the job parameters for ``generate(config.prompt, **options)``: the seed and what was chosen."""
        chosen = {job: getattr(self, own) for own, job in _JOB_NAMES.items() if own not in self.left_to_model()}
        return {"seed": self.seed, **chosen}

    def asked(self) -> dict[str, Any]:
        """Return the fields of a generate request that asks for the same."""
        enhance = {"enhance": True} if self.enhance_prompt_option else {}
        return {"prompt": self.prompt, **self.options(), **enhance}

    def left_to_model(self) -> tuple[str, ...]:
        """Return the fields whose values are this class's defaults, so that the model's own apply."""
        defaults = {field.name: field.default for field in fields(self)}
        return tuple(name for name in _JOB_NAMES if getattr(self, name) == defaults[name])

    def warning(self) -> str | None:
        """Return what a caller should know about the values that were left to the model."""
        names = [name for name in self.left_to_model() if name != "negative_prompt"]
        if not names:
            return None
        return f"{', '.join(names)}: left at PromptConfig's defaults, so the model's own values are used"

    @classmethod
    def from_params(cls, params: BaseParams) -> Self:
        """Return the config that says what a job's parameters say; what they leave unset has its default."""
        values = {own: getattr(params, job, None) for own, job in _JOB_NAMES.items()}
        known = {name: value for name, value in values.items() if value is not None}
        return cls(prompt=params.prompt, seed=params.seed, **known)


@cache
def _checks() -> dict[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(hint) for name, hint in get_type_hints(PromptConfig, include_extras=True).items()}

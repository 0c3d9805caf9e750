"""Samplers by the names users know, as diffusers' schedulers; the pairs are those of its guide to schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import diffusers

_KARRAS: Final = {"use_karras_sigmas": True}
_SDE: Final = {"algorithm_type": "sde-dpmsolver++"}
_DPM: Final = {"algorithm_type": "dpmsolver++"}
_SINGLE: Final = {**_DPM, "lower_order_final": True}
_UNCLIPPED: Final = {"clip_sample": False}
"""Latents are not pixels in -1..1."""

SCHEDULERS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", _DPM),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {**_DPM, **_KARRAS}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", _SDE),
    "DPM++ 2M SDE Karras": ("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "DPM++ SDE": ("DPMSolverSinglestepScheduler", _SINGLE),
    "DPM++ SDE Karras": ("DPMSolverSinglestepScheduler", {**_SINGLE, **_KARRAS}),
    "DPM2": ("KDPM2DiscreteScheduler", {}),
    "DPM2 Karras": ("KDPM2DiscreteScheduler", _KARRAS),
    "DPM2 a": ("KDPM2AncestralDiscreteScheduler", {}),
    "DPM2 a Karras": ("KDPM2AncestralDiscreteScheduler", _KARRAS),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {}),
    "LMS Karras": ("LMSDiscreteScheduler", _KARRAS),
    "DDIM": ("DDIMScheduler", _UNCLIPPED),
    "DDPM": ("DDPMScheduler", _UNCLIPPED),
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True}),
    "DEIS": ("DEISMultistepScheduler", {}),
    "UniPC": ("UniPCMultistepScheduler", {}),
}
"""Per name, the class and the settings that make the difference."""


def make_scheduler(sampler: str, config: Mapping[str, Any]) -> Any:
    """Return a fresh scheduler of this name for a model whose own scheduler has ``config`` (its noise schedule).

    Settings that make another sampler of it are set, whatever ``config`` says.
    """
    name, settings = SCHEDULERS[sampler]
    plain = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
    return getattr(diffusers, name).from_config(dict(config), **{**_known(name, plain), **settings})


def _known(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``settings`` that the class has; diffusers warns of the others."""
    accepted = getattr(diffusers, name)._get_init_keys(getattr(diffusers, name))
    return {key: value for key, value in settings.items() if key in accepted}

"""What a Space's endpoint takes, read from its API description, and our options in its words.

Every Space names things its own way; options are matched by parameter name, never by position. The description's
format is that of ``gradio_client.Client.view_api(return_format="dict")``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NoReturn

from shared.domain.errors import CapabilityError

NAMES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "prompt": ("prompt", "text_prompt", "text"),
        "num_inference_steps": ("num_inference_steps", "steps", "num_steps", "inference_steps"),
        "guidance_scale": ("guidance_scale", "guidance", "distilled_guidance"),
        "image": ("image", "input_image", "init_image", "source_image"),
        "mask": ("mask_image", "mask"),
        "negative_prompt": ("negative_prompt", "prompt_negative"),
    }
)
"""Our options, which have diffusers' names, as Spaces call them; one that is not here has the same name there."""

_FIXED: Final[Mapping[str, tuple[Any, tuple[str, ...]]]] = MappingProxyType(
    {
        # Else the Space draws a seed of its own, and the picture cannot be made again.
        "randomize_seed": (False, ("randomize_seed", "random_seed", "randomize")),
        # One call per image: each has its own seed.
        "num_images": (1, ("num_images", "num_images_per_prompt", "num_outputs", "batch_size")),
    }
)
_RANGE: Final = re.compile(r"between (-?[\d.]+(?:e[+-]?\d+)?) and (-?[\d.]+(?:e[+-]?\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One input of an endpoint; ``limits`` are its slider's ends, both included."""

    name: str
    required: bool
    limits: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The keyword arguments of one call, and what the caller should know about how they came to be."""

    arguments: Mapping[str, Any]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One named function of a Space; ``outputs`` are the (component, label) of what it returns."""

    api_name: str
    parameters: tuple[Parameter, ...]
    outputs: tuple[tuple[str, str], ...]

    def find(self, option: str) -> Parameter | None:
        """Return the parameter that is ``option`` in the Space's words."""
        fixed = _FIXED.get(option)
        names = fixed[1] if fixed else NAMES.get(option, (option,))
        named = {parameter.name: parameter for parameter in self.parameters}
        return next((named[name] for name in names if name in named), None)

    def lacks(self, given: Collection[str]) -> list[str]:
        """Return the required parameters that none of the ``given`` options fills."""
        filled = {found.name for option in (*given, *_FIXED) if (found := self.find(option))}
        return [item.name for item in self.parameters if item.required and item.name not in filled]

    def fits(self, given: Collection[str]) -> bool:
        """Return whether the endpoint makes pictures from a prompt, and from a picture where one is given."""
        pictures = {"image", "mask"} & set(given)
        return not self.lacks(given) and all(self.find(option) for option in ("prompt", *pictures))

    def bind(self, options: Mapping[str, Any], implied: Mapping[str, Any]) -> Bound:
        """Return the arguments that say what ``options`` ask.

        An option that the Space has no parameter for is left out where it equals its ``implied`` value, which is
        what a caller who asks for nothing special gets.

        Raises:
          CapabilityError: the Space has no parameter for an option, or its value is outside the Space's limits.
        """
        arguments = {found.name: value for option, (value, _) in _FIXED.items() if (found := self.find(option))}
        warnings = []
        for option, value in options.items():
            parameter = self.find(option)
            if parameter is None:
                if option == "seed":
                    warnings.append("the Space takes no seed: the picture cannot be made again")
                elif value != implied.get(option):
                    _refuse_option(option, self)
                continue
            if option == "seed" and parameter.limits and value > parameter.limits[1]:
                arguments[parameter.name] = folded = value % (int(parameter.limits[1]) + 1)
                warnings.append(f"the Space's seeds end at {parameter.limits[1]:.0f}: {value} was sent as {folded}")
                continue
            _check_limits(option, value, parameter)
            arguments[parameter.name] = value
        return Bound(arguments=arguments, warnings=tuple(warnings))


def read_endpoints(api: Mapping[str, Any]) -> list[Endpoint]:
    """Return the named endpoints of an API description."""
    return [
        Endpoint(
            api_name=name,
            parameters=tuple(_read_parameter(item) for item in info["parameters"]),
            outputs=tuple((str(item.get("component")), str(item.get("label"))) for item in info["returns"]),
        )
        for name, info in api["named_endpoints"].items()
    ]


def _read_parameter(item: Mapping[str, Any]) -> Parameter:
    description = str(item.get("python_type", {}).get("description") or item.get("type", {}).get("description"))
    found = _RANGE.search(description)
    return Parameter(
        name=str(item.get("parameter_name") or item["label"]),
        required=not item.get("parameter_has_default", False),
        limits=(float(found[1]), float(found[2])) if found else None,
    )


def _check_limits(option: str, value: Any, parameter: Parameter) -> None:
    if parameter.limits is None or not isinstance(value, int | float):
        return
    lowest, highest = parameter.limits
    if not lowest <= value <= highest:
        limit = lowest if value < lowest else highest
        raise CapabilityError(
            f"{option} is {value:g}; the Space takes {lowest:g} to {highest:g}.", field=option, limit=limit
        )


def _refuse_option(option: str, endpoint: Endpoint) -> NoReturn:
    takes = ", ".join(parameter.name for parameter in endpoint.parameters)
    raise CapabilityError(
        f"The Space has no {option}; its {endpoint.api_name} takes {takes}. Leave {option} out.",
        field=option,
        limit=None,
    )

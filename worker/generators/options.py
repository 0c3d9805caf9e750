"""From a generator's keyword arguments to complete parameters."""

from __future__ import annotations

from shared.domain.capabilities import resolve
from shared.domain.model import PipelineSpec
from shared.domain.params import JobParams
from worker.generators.interface import PICTURES, GenerationOptions


def resolve_options(spec: PipelineSpec, prompt: str, options: GenerationOptions) -> JobParams:
    """Return complete parameters for these options; every adapter that runs a model of the catalog starts with this.

    Raises:
      CapabilityError, RequestError: the model cannot do what is asked; see ``shared.domain.capabilities``.
    """
    asked = {key: value for key, value in options.items() if key != "model" and key not in PICTURES}
    image = options.get("image")
    return resolve(
        spec,
        spec.kind,
        {"prompt": prompt, **asked},
        image.size if image else None,
        has_reference="reference" in options,
    ).params

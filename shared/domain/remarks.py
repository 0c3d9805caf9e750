"""What a request asks for that will have no effect, or another one than its words have elsewhere.

Nothing of it is an error: the job runs, and its warnings say this from its first answer on.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared.domain.conditioning import is_guided
from shared.domain.model import PipelineSpec
from shared.domain.params import GenerateParams, JobParams
from shared.domain.prompt_syntax import foreign_syntax


def remarks(spec: PipelineSpec, params: JobParams) -> Iterator[str]:
    """Yield a sentence for each such thing in a job's resolved parameters."""
    yield from _on_words("prompt", params.prompt)
    if not spec.uses_guidance and params.guidance_scale > 0:
        yield f"{spec.model} is guidance-distilled: guidance_scale has no effect on it"
    if isinstance(params, GenerateParams):
        yield from _on_conditioning(params)


def _on_words(field: str, text: str) -> Iterator[str]:
    if found := foreign_syntax(text):
        yield (
            f"{field}: {', '.join(found)} is taken as plain words, since weights, LoRA tags, BREAK and AND mean "
            "nothing here; say in a sentence what matters most"
        )


def _on_conditioning(params: GenerateParams) -> Iterator[str]:
    if params.negative_prompt:
        yield from _on_words("negative_prompt", params.negative_prompt)
        if not is_guided(params):
            yield "negative_prompt has no effect at a guidance_scale of 1 or less"
    if params.ip_adapter_scale == 0:
        yield "reference has no effect: ip_adapter_scale is 0"
    if params.strength == 1:
        yield "image gives no more than its size: at a strength of 1 all of it is repainted"

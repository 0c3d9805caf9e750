"""An enhancer's leg of a job: whatever goes wrong in it is a warning, and the job goes on with its own words."""

from __future__ import annotations

import math
from typing import Final

import structlog

from shared.catalog import find_model
from shared.domain.job import Job
from shared.domain.route import Generator
from shared.domain.status import Phase
from worker.enhancers.interface import EnhancerInterface, NotEnhanced
from worker.run import JobRun

log = structlog.get_logger(__name__)

_TOKENS_PER_WORD: Final = 1.5
"""T5's SentencePiece makes about 1.3 tokens of an English word; the rest is for rare words and punctuation."""
_MOST_WORDS: Final = 200
"""More than FLUX follows, however many tokens it reads."""


def max_words(job: Job) -> int:
    """Return how long the prompt may become so that every model of the route reads all of it.

    A bound in words, because the tokenizers are with the GPU worker; that one counts the tokens once more and warns.
    """
    legs = (*job.route.legs, *job.route.alternatives)
    tokens = min(find_model(leg.model).max_sequence_length for leg in legs if leg.generator is not Generator.ENHANCER)
    return min(_MOST_WORDS, math.floor(tokens / _TOKENS_PER_WORD))


def enhance_prompt(run: JobRun, enhancer: EnhancerInterface | None) -> None:
    """Put the enhanced prompt into ``run``, or a warning that says why there is none.

    Raises:
      JobInterrupted: somebody asked for a cancel, or this process ends.
    """
    run.on_phase(Phase.ENHANCING)
    try:
        if enhancer is None:
            raise NotEnhanced("this worker knows no language model (FLUX_ENHANCER_URL)")
        prompt = run.job.params.prompt
        made = enhancer.enhance(prompt, run.job.kind, max_words(run.job), run.raise_if_cancelled)
        if made.prompt is not None and made.prompt.split() == prompt.split():
            raise NotEnhanced(f"{made.by} gave it back as it was")
        run.enhancement = made
    except NotEnhanced as reason:
        log.warning("prompt not enhanced", action="enhance_failed", reason=str(reason))
        run.warn(f"the prompt was not enhanced: {reason}")

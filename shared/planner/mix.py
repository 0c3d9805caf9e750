"""Which jobs a card is for: how many bring a new prompt, and how many another model than the job before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the jobs, 0..1. A prompt that is not new has its embeddings, and its modulation table, at hand."""

    new_prompts: float
    switches: float


SAME_MODEL: Final = Mix(new_prompts=0, switches=0)
"""One prompt again and again, with other seeds."""

ALTERNATING: Final = Mix(new_prompts=0, switches=1)
"""Each job for another model than the last, its prompt known."""

NEW_PROMPTS: Final = Mix(new_prompts=1, switches=0)
"""One model, another prompt each time."""

ANY_JOBS: Final = Mix(new_prompts=1, switches=0.5)
"""Where nothing is known: every prompt is new, every second job is for another model."""

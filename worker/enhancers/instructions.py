"""What a language model is told, per kind of job."""

from __future__ import annotations

from typing import Final

from shared.domain.params import JobKind

_ANSWER: Final = "Answer with the new text alone: no introduction, no quotes, no lists. At most {max_words} words."

_TASKS: Final = {
    JobKind.GENERATE: (
        "You improve prompts for FLUX, an image model that reads whole sentences. Keep every subject, number, colour, "
        "place and quoted text of the user's prompt. Add what is missing of composition, light, material and style, "
        "in plain flowing prose, the subject first."
    ),
    JobKind.FILL: (
        "You describe what an image model paints into the masked region of a picture. Keep everything the user asks "
        "for. Add material, light and edges that blend with the surroundings, in plain prose."
    ),
    JobKind.EDIT: (
        "You make instructions for an image editing model precise. Keep the meaning of the user's instruction exactly. "
        "Say what changes, to what, and that everything else stays as it is. Add no new change."
    ),
}


def instruction(kind: JobKind, max_words: int) -> str:
    """Return the system message."""
    return f"{_TASKS[kind]} {_ANSWER.format(max_words=max_words)}"

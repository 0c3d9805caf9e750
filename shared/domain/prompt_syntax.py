"""Prompt syntax of other programs (AUTOMATIC1111's web UI, ComfyUI), which the models here read as plain words."""

from __future__ import annotations

import re
from typing import Final

_FORMS: Final = tuple(
    map(
        re.compile,
        (
            r"(?<!\\)\([^()]*[^()\d\s]\s*:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)",  # (word:1.3), but not (at 10:30)
            r"(?<!\\)\(\([^()]+\)\)",  # ((word))
            r"(?<!\\)\[[^\[\]]+\]",  # [word], [from:to:when], [this|that]
            r"<(?i:lora|lyco|hypernet):[^<>]+>",
            r"\b(?i:embedding):\w[\w.-]*",
            r"\{[^{}|]+\|[^{}]+\}",  # {this|that}
            r"\bBREAK\b",
        ),
    )
)
_SHOWN: Final = 3
_SHOWN_CHARACTERS: Final = 40


def foreign_syntax(text: str) -> tuple[str, ...]:
    """Return the first few pieces of such syntax in a prompt, long ones cut."""
    found = [match.group() for form in _FORMS for match in form.finditer(text)]
    if _joins_with_and(text.split()):
        found.append("AND")
    short = (piece if len(piece) <= _SHOWN_CHARACTERS else f"{piece[: _SHOWN_CHARACTERS - 3]}..." for piece in found)
    return tuple(dict.fromkeys(short))[:_SHOWN]


def _joins_with_and(words: list[str]) -> bool:
    """Whether AND stands between words that are not all capitals: a sign may say SALT AND PEPPER."""
    around = zip(words, words[1:], words[2:], strict=False)
    return any(word == "AND" and not before.isupper() and not after.isupper() for before, word, after in around)

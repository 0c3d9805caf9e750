"""One question: a better prompt of at most so many words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from shared.domain.params import JobKind
from shared.domain.route import Enhancement


class NotEnhanced(Exception):
    """The enhancer gave no usable answer; the message says why. The original prompt is painted."""


class EnhancerInterface(ABC):
    """Rewrites prompts."""

    @abstractmethod
    def enhance(
        self, prompt: str, kind: JobKind, max_words: int, raise_if_cancelled: Callable[[], None]
    ) -> Enhancement:
        """Return the enhanced prompt and who made it; calls ``raise_if_cancelled`` several times a second.

        Raises:
          NotEnhanced: there is no usable answer in time.
          JobInterrupted: ``raise_if_cancelled`` raised it.
        """

"""How many bits a model's weights have on the card, and the key under which it is resident there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, Self


class Precision(StrEnum):
    """What a caller may ask for. Only ``exact`` computes with the weights as they were published."""

    EXACT = "exact"
    """bfloat16 (float32 on a CPU)."""
    BALANCED = "balanced"
    """8 bits per weight; half the memory, small differences."""
    COMPACT = "compact"
    """4 bits per weight; for small cards, or for many models at once."""


PrecisionSetting = Literal["auto", "exact", "balanced", "compact"]
"""``auto``: the best precision at which the default models fit."""

BEST_FIRST: Final = (Precision.EXACT, Precision.BALANCED, Precision.COMPACT)


@dataclass(frozen=True, slots=True, order=True)
class ResidencyKey:
    """What must be on the card for a job: jobs of equal keys follow each other without any transfer."""

    model: str
    precision: Precision = Precision.EXACT
    adapter: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the key that is written as ``text``.

        Raises:
          ValueError: it names no precision.
        """
        name, _, precision = text.partition(":")
        model, _, adapter = name.partition("+")
        return cls(model, Precision(precision or Precision.EXACT), adapter or None)

    def __str__(self) -> str:
        """Return ``model``, ``model:compact`` or ``model+adapter:compact``, as it is stored and shown."""
        name = f"{self.model}+{self.adapter}" if self.adapter else self.model
        return name if self.precision is Precision.EXACT else f"{name}:{self.precision}"

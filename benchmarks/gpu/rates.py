"""How often a step is timed, and its operations in closed form; imports no torch."""

from __future__ import annotations

from typing import Final

WARM_UP: Final = 3
REPEATS: Final = 10

_LINEAR_PER_TOKEN: Final = 12.91e9
_ATTENTION_PER_PAIR: Final = 700_416
"""19 double and 38 single blocks, 24 heads of 128: 4 x 3072 operations a pair and block."""


def operations_of(tokens: int) -> float:
    """Return the floating point operations of one step of FLUX.1 over so many tokens, those of the prompt included."""
    return _LINEAR_PER_TOKEN * tokens + _ATTENTION_PER_PAIR * tokens**2

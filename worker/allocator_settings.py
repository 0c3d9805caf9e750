"""How torch's allocator is set up; call it before torch is imported. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Final

_NAMES: Final = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""torch 2.13 reads both; older ones the second only."""


def prefer_expandable_segments(environment: MutableMapping[str, str] | None = None) -> None:
    """Let weights of many sizes share the card's memory without gaps, unless the owner has set the allocator up.

    A segment that grows page by page has no rest that only a tensor of the same size could use (torch, "CUDA
    semantics", ``expandable_segments``).
    """
    found = os.environ if environment is None else environment
    if not any(name in found for name in _NAMES):
        found[_NAMES[-1]] = "expandable_segments:True"

"""Full-size models with random weights in seconds: one random block, laid out again and again.

Random weights are honest about time and memory, for dense products do not look at values. They say nothing about
pictures. Normal numbers with a spread of 0.02; making each of 17 billion of them anew takes half a minute and more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from accelerate import init_empty_weights

_SPREAD: Final = 0.02
_BLOCK_ELEMENTS: Final = 2**25
"""64 MiB in bfloat16."""


class WeightTiles:
    """Fills modules of one dtype on one device."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._block: torch.Tensor | None = None

    def build(self, make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
        """Return what ``make`` returns, with random parameters on the device; buffers keep their values."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(self._dtype)
        try:
            with init_empty_weights(include_buffers=False):
                module: Any = make()
        finally:
            torch.set_default_dtype(before)
        if hasattr(module, "tie_weights"):
            module.tie_weights()
        self._fill(module)
        return module.to(self._device).eval()  # type: ignore[no-any-return]

    def _fill(self, module: torch.nn.Module) -> None:
        made: dict[int, torch.nn.Parameter] = {}  # a weight that stands in two places is one
        for part in module.modules():
            for name, empty in part._parameters.items():
                if empty is not None:
                    part._parameters[name] = made.setdefault(id(empty), self._parameter(empty))

    def _parameter(self, empty: torch.Tensor) -> torch.nn.Parameter:
        flat = torch.empty(empty.numel(), device=self._device, dtype=self._dtype)
        for piece in torch.split(flat, _BLOCK_ELEMENTS):
            piece.copy_(self._tile()[: piece.numel()])
        return torch.nn.Parameter(flat.view(empty.shape), requires_grad=False)

    def _tile(self) -> torch.Tensor:
        if self._block is None:
            numbers = torch.Generator(self._device).manual_seed(0)
            block = torch.randn(_BLOCK_ELEMENTS, device=self._device, generator=numbers)
            self._block = (block * _SPREAD).to(self._dtype)
        return self._block

"""Whether this card multiplies 8-bit floating point numbers, by one product of FLUX's size: its kind alone says little.

Cards that could, with a driver, a cuBLAS or a torch that cannot, are many; `balanced` is then computed from int8.
"""

from __future__ import annotations

from typing import Final

import torch

from shared.domain.report import ChoiceReport
from worker.pipelines.device import Device
from worker.pipelines.trial import problem_of
from worker.pipelines.weight_formats import FP8_ROWWISE, INT8, WeightFormat

TOKENS: Final = 4608
"""Of a picture of 1024 x 1024 pixels and a prompt of 512 tokens."""

_WIDTH: Final = 3072
"""Of FLUX.1's transformers."""

_MOST_ERROR: Final = 0.1
"""Mean difference from the exact product, relative to its mean; fp8 is 0.04 off on normally distributed numbers."""


def choose_balanced(device: Device, product: WeightFormat = FP8_ROWWISE, tokens: int = TOKENS) -> ChoiceReport:
    """Return the format of `balanced` weights of a denoiser on this device, by its name, and why.

    Raises:
      DeviceLost: the product cost this process its device.
    """
    if not device.has_fp8:
        why = "a card of this kind has no fp8 products" if device.is_cuda else "fp8 products are for cards"
        return ChoiceReport(value=INT8.name, reason=why)
    if problem := problem_of(lambda: _multiply(device, product, tokens), device):
        return ChoiceReport(value=INT8.name, reason=f"an fp8 product of FLUX's size does not work here: {problem}")
    return ChoiceReport(value=product.name, reason="an fp8 product of FLUX's size was tried at start")


@torch.no_grad()
def _multiply(device: Device, product: WeightFormat, tokens: int) -> None:
    """Return if products of one row, as modulation has them, and of many are near the exact ones.

    Raises:
      ArithmeticError: they are not.
    """
    random = torch.Generator(device.torch_device).manual_seed(0)

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, device=device.torch_device, dtype=device.dtype)

    weight, bias = values(_WIDTH, _WIDTH), values(_WIDTH)
    packed = product.pack(weight)
    for rows in (1, tokens):
        inputs = values(1, rows, _WIDTH)
        exact = torch.nn.functional.linear(inputs, weight, bias).float()
        found = product.multiply(inputs, *packed, bias).float()
        error = ((found - exact).abs().mean() / exact.abs().mean()).item()
        if not error < _MOST_ERROR:  # also where it is no number
            raise ArithmeticError(f"the product of {rows} rows is {error:.0%} off")

"""Ways to store the weight of a linear layer in 8 or 4 bits, and to multiply by it, without its own bits again.

Each keeps a weight as two plain tensors, the packed values and their scales, so that whoever moves weights moves
these and knows nothing of formats. Quantizing and multiplying are torchao's and bitsandbytes'; their tensor
subclasses live for one call only. ``allow_in_graph`` lets ``torch.compile`` trace through that, without a graph break.

Both libraries are imported at a format's first use: each asks for the card when it is imported, which takes seconds,
and exact weights need neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import linear

from shared.domain.acceleration import FP8, WEIGHTS_4_BIT, WEIGHTS_8_BIT, Acceleration
from shared.domain.precision import Precision

_NF4_BLOCK: Final = 64
_FP8_MULTIPLE: Final = 16
"""Sides of a matrix that the cards' fp8 products accept (``torch._scaled_mm``)."""


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """One way; shapes are those of ``torch.nn.Linear``: a weight is (out, in)."""

    name: str
    acceleration: Acceleration
    pack: Callable[[Tensor], tuple[Tensor, Tensor]]
    """From a weight to its packed values and their scales."""
    multiply: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
    """From (inputs of shape (..., in), packed, scales, bias) to outputs of shape (..., out)."""
    accepts: Callable[[int, int], bool]
    """Whether a weight of (out, in) can be stored so."""


def _pack_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    from torchao.quantization import Int8Tensor, PerRow

    packed = Int8Tensor.from_hp(weight, granularity=PerRow())
    return packed.qdata, packed.scale


@torch.compiler.allow_in_graph  # type: ignore[untyped-decorator]
def _multiply_int8(inputs: Tensor, packed: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    from torchao.quantization import Int8Tensor

    return linear(inputs, Int8Tensor(packed, scales, [1, packed.shape[1]], inputs.dtype), bias)


def _pack_fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    from torchao.quantization import Float8Tensor, PerRow

    packed = Float8Tensor.from_hp(weight, granularity=PerRow())
    return packed.qdata, packed.scale


@torch.compiler.allow_in_graph  # type: ignore[untyped-decorator]
def _multiply_fp8(inputs: Tensor, packed: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    from torchao.float8.inference import Float8MMConfig
    from torchao.quantization import Float8Tensor, PerRow
    from torchao.quantization.quantize_.workflows.float8.float8_tensor import QuantizeTensorToFloat8Kwargs

    activations, product = QuantizeTensorToFloat8Kwargs(granularity=PerRow()), Float8MMConfig(use_fast_accum=True)
    weight = Float8Tensor(packed, scales, [1, packed.shape[1]], product, activations, dtype=inputs.dtype)
    return linear(inputs, weight, bias)


def _pack_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weight, blocksize=_NF4_BLOCK, quant_type="nf4")
    return packed, state.absmax


@torch.compiler.allow_in_graph  # type: ignore[untyped-decorator]
def _multiply_nf4(inputs: Tensor, packed: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    from bitsandbytes import matmul_4bit
    from bitsandbytes.functional import QuantState

    columns = inputs.shape[-1]
    shape = torch.Size((2 * packed.numel() // columns, columns))
    state = QuantState(scales, shape=shape, dtype=inputs.dtype, blocksize=_NF4_BLOCK, quant_type="nf4")
    product: Tensor = matmul_4bit(inputs, packed, state, bias=bias)
    return product


INT8: Final = WeightFormat("int8", WEIGHTS_8_BIT, _pack_int8, _multiply_int8, lambda _rows, _columns: True)
"""8-bit integers, scaled row by row; the product is computed with the activations' own bits."""

FP8_ROWWISE: Final = WeightFormat(
    "fp8", FP8, _pack_fp8, _multiply_fp8, lambda rows, columns: rows % _FP8_MULTIPLE == columns % _FP8_MULTIPLE == 0
)
"""8-bit floating point for weights and activations, both scaled row by row, activations anew for each call."""

NF4: Final = WeightFormat(
    "nf4", WEIGHTS_4_BIT, _pack_nf4, _multiply_nf4, lambda _rows, columns: columns % _NF4_BLOCK == 0
)
"""Four bits that stand for quantiles of a normal distribution, scaled in blocks of 64 (QLoRA, arXiv 2305.14314)."""

_NONE: Final[Mapping[str, WeightFormat]] = MappingProxyType({})


def formats_for(precision: Precision, *, has_fp8: bool) -> Mapping[str, WeightFormat]:
    """Return the format of each component that is quantized at a precision.

    fp8 products are for the denoiser: the encoder runs once for a prompt, and its activations have outliers.
    """
    match precision:
        case Precision.BALANCED:
            return {"transformer": FP8_ROWWISE if has_fp8 else INT8, "text_encoder_2": INT8}
        case Precision.COMPACT:
            return {"transformer": NF4, "text_encoder_2": NF4}
        case Precision.EXACT:
            return _NONE

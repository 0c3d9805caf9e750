"""How large things are on the card. Every figure has its source; none was measured on this project's machines yet.

Weights: parameter counts (``shared.catalog``) times the bytes per weight of each format. 8 bits: int8 or fp8 with a
32-bit factor for each row, of 3072 weights or more in FLUX.1. 4 bits: NF4 with a 32-bit factor for each 64 weights.
Working memory: differences between published peaks and weights at 1024 x 1024, batch 1, bfloat16. A transformer's
forward: 22.64 GiB peak less 22.17 GiB of weights (Hugging Face's diffusers benchmarks, L40S). A whole pipeline with
an untiled decode: 33.85 GiB less 31.44 (diffusers-torchao, H100). Both grow in proportion: attention is computed in
blocks, and so is linear in tokens; a decode is linear in pixels. A source picture passes through the VAE's other half:
1,536 bytes a pixel where the decode takes 2,432 (torch's profiler, FLUX.1's VAE in bfloat16 on a CPU, 256 x 256).
Tiled decode and text encoding: estimates.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from shared.domain.precision import Precision

GIB: Final = 2**30

_REFERENCE_PIXELS: Final = 1024 * 1024
_PIXELS_PER_TOKEN: Final = 16 * 16
_TEXT_TOKENS: Final = 512
_FORWARD_BYTES_PER_TOKEN: Final = round(0.47 * GIB / (_REFERENCE_PIXELS // _PIXELS_PER_TOKEN + _TEXT_TOKENS))
_DECODE_BYTES_PER_PIXEL: Final = round(2.4 * GIB / _REFERENCE_PIXELS)
_READ_BYTES_PER_PIXEL: Final = 1536
_TILED_DECODE_BYTES: Final = round(0.8 * GIB)
_ENCODE_BYTES_PER_TOKEN: Final = round(0.25 * GIB / _TEXT_TOKENS)

MODULATION_TABLE_SHARE: Final = 0.07
"""Of the modulation layers, 0.45 GB for FLUX.1: two tables (the running job's and the next one's) of 50 steps of 2.1 MB
each, and two layers of 113 MB each, for the tables are computed from weights that pass over the card one by one."""

QUANTIZING_SHARE: Final = 0.05
"""Of a denoiser's bytes at 16 bits, 1.2 GB for FLUX.1: one layer (113 MB at most) passes over the card to be quantized,
beside copies of it in 32 bits. An estimate."""

_QUANTIZED_BITS: Final[Mapping[Precision, float]] = MappingProxyType(
    {Precision.BALANCED: 8 + 32 / 3072, Precision.COMPACT: 4 + 32 / 64}
)


def weight_bytes(at_16_bits: int, kept_at_16_bits: int, precision: Precision, *, bits: int = 16) -> int:
    """Return the bytes of weights that take ``at_16_bits`` bytes in bfloat16.

    ``kept_at_16_bits`` of them are never quantized; what is not has ``bits`` per weight (32 on a CPU).
    """
    if precision is Precision.EXACT:
        return at_16_bits * bits // 16
    quantized = (at_16_bits - kept_at_16_bits) / 16 * _QUANTIZED_BITS[precision]
    return kept_at_16_bits * bits // 16 + round(quantized)


def encode_bytes(text_tokens: int) -> int:
    """Return what encoding a prompt needs beside the encoders."""
    return text_tokens * _ENCODE_BYTES_PER_TOKEN


def denoising_bytes(pixels: int, text_tokens: int, *, attended_pixels: int = 0, source_pixels: int = 0) -> int:
    """Return what the steps of one image of ``pixels``, and reading a source before them, need beside the weights.

    ``attended_pixels`` is the size of a picture whose tokens are read at every step (Kontext).
    """
    tokens = (pixels + attended_pixels) / _PIXELS_PER_TOKEN + text_tokens
    return max(round(tokens * _FORWARD_BYTES_PER_TOKEN), source_pixels * _READ_BYTES_PER_PIXEL)


def decoding_bytes(pixels: int, *, tiled: bool = False) -> int:
    """Return what turning the latents of one image into pixels needs beside the VAE."""
    whole = pixels * _DECODE_BYTES_PER_PIXEL
    return min(_TILED_DECODE_BYTES, whole) if tiled else whole

"""What made a job faster or smaller than the plain pipeline, named in its result so that nobody has to guess."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


@dataclass(frozen=True, slots=True)
class Acceleration:
    """A named technique; ``lossless`` when it changes no bit of the latents in eager mode."""

    name: str
    lossless: bool


MODULATION_TABLE: Final = Acceleration("modulation_table", lossless=True)
WEIGHTS_8_BIT: Final = Acceleration("8_bit_weights", lossless=False)
FP8: Final = Acceleration("fp8", lossless=False)
"""Weights and activations of the products in 8-bit floating point, scaled row by row."""
WEIGHTS_4_BIT: Final = Acceleration("4_bit_weights", lossless=False)
FUSED_QKV: Final = Acceleration("fused_qkv", lossless=False)
"""Query, key and value of an attention as one product, which may round elsewhere."""
CHANNELS_LAST_DECODE: Final = Acceleration("channels_last_decode", lossless=False)
"""The VAE's convolutions in the order of bytes that tensor cores read; they round elsewhere."""
TILED_DECODE: Final = Acceleration("tiled_decode", lossless=False)
REGIONAL_COMPILE: Final = Acceleration("regional_compile", lossless=False)
"""The same arithmetic in fused kernels, which round elsewhere."""
FIRST_BLOCK_CACHE: Final = Acceleration("first_block_cache", lossless=False)


class StepCache(StrEnum):
    """How a job may save denoising steps; lossy, so it is always asked for and never a default."""

    OFF = "off"
    FIRST_BLOCK = "first_block"
    """Where the first block changes little against the last computed step, that step's other blocks are reused."""

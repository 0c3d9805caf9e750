"""The adaLN modulation layers of a FLUX transformer: 27 % of its weights, and all they see is one token."""

from __future__ import annotations

from typing import Any

from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero, AdaLayerNormZeroSingle

from worker.pipelines.device_memory import Block, weights_of

_MODULATED = (AdaLayerNormZero, AdaLayerNormZeroSingle, AdaLayerNormContinuous)


def modulation_weights(transformer: Any) -> list[Block]:
    """Return the weights of every modulation layer, in order of use."""
    norms = (module for module in transformer.modules() if isinstance(module, _MODULATED))
    return [Block(tuple(weights_of(norm.linear)), norm) for norm in norms]

"""Forms of a model that compute the same with other rounding: for precisions that do not promise equal bits.

A denoiser is loaded once per precision, so its form is for good. The VAE serves jobs of every precision, so its weights
stay as they are, and only the numbers that pass through it lie otherwise while a block lasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from diffusers.models.attention import AttentionModuleMixin

_JOINED: Final = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")
"""What diffusers' fused projections stand for; it would keep both."""


def fuse_qkv(transformer: torch.nn.Module) -> None:
    """Join query, key and value of each attention into one product, in place, one attention after the other.

    Row by row the weights are the same, so a quantized one holds the same values as the three.
    """
    for attention in transformer.modules():
        if isinstance(attention, AttentionModuleMixin):
            attention.fuse_projections()
            for name in _JOINED:
                if hasattr(attention, name):
                    delattr(attention, name)


@contextmanager
def channels_last(vae: Any) -> Iterator[None]:
    """Let convolutions see each place's channels side by side, as tensor cores read them, until the block ends.

    Their weights are not touched: torch brings those of one call into the layout of its input.
    """
    with ExitStack() as hooks:
        for layer in vae.modules():
            if isinstance(layer, torch.nn.Conv2d):
                handle = layer.register_forward_pre_hook(_side_by_side)
                hooks.callback(handle.remove)
        yield


def _side_by_side(_layer: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].contiguous(memory_format=torch.channels_last),)

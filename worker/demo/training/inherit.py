"""Where transformers begin: `demo` with a sense of place, Kontext and Fill as copies of `demo`."""

import itertools
from typing import Any

import torch

PLACE_BIAS = 1.5


@torch.no_grad()
def mark_positions(transformer: Any) -> None:
    """Let half of the heads ask the same question everywhere.

    FLUX knows a place only through the rotation of queries and keys. A query that is mostly constant
    turns that rotation into waves across the picture from the first step on, instead of noise.
    """
    blocks = itertools.chain(transformer.transformer_blocks, transformer.single_transformer_blocks)
    for block in blocks:
        bias = block.attn.to_q.bias
        bias[: len(bias) // 2] = PLACE_BIAS * torch.randn(len(bias) // 2)


@torch.no_grad()
def kontext_from_demo(kontext: Any, demo: Any) -> None:
    """Begin Kontext as `demo`, deaf to guidance."""
    kontext.load_state_dict(demo.state_dict(), strict=False)
    _ignore_guidance(kontext)


@torch.no_grad()
def fill_from_demo(fill: Any, demo: Any) -> None:
    """Begin Fill as `demo`, blind to the mask and the kept pixels."""
    weights = demo.state_dict()
    narrow = weights.pop("x_embedder.weight")
    fill.load_state_dict(weights, strict=False)
    fill.x_embedder.weight.zero_()
    fill.x_embedder.weight[:, : narrow.shape[1]] = narrow
    _ignore_guidance(fill)


def _ignore_guidance(transformer: Any) -> None:
    """Let the new guidance embedding begin at nothing."""
    last = transformer.time_text_embed.guidance_embedder.linear_2
    last.weight.zero_()
    last.bias.zero_()

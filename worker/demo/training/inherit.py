"""Where transformers begin: `demo` with a sense of place, Kontext and Fill as copies of `demo`."""

import itertools
import math
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
    """Begin Kontext as `demo`, deaf to guidance, with heads that look at the source's same place."""
    kontext.load_state_dict(demo.state_dict(), strict=False)
    for block in kontext.transformer_blocks:
        point_at_source(block.attn, kontext.config.axes_dims_rope)
    _ignore_guidance(kontext)


@torch.no_grad()
def point_at_source(attention: Any, axes: tuple[int, int, int]) -> None:
    """Let the last head look from a token at the same place of the source picture.

    Query and key are constant, so only the rotation decides: it favours equal rows and columns, and the
    step of one along the first axis that Kontext gives its source. What the head found is not used yet.
    """
    size = attention.head_dim
    query, key = torch.zeros(size), torch.zeros(size)
    for pair in (axes[0], axes[0] + 2, axes[0] + axes[1], axes[0] + axes[1] + 2):
        query[pair] = key[pair] = 1.0
    query[0] = 1.0
    # The source is rotated by one radian along the first axis: turn the key back by it.
    key[0], key[1] = math.cos(1.0), -math.sin(1.0)
    for projection, constant in ((attention.to_q, query), (attention.to_k, key)):
        projection.weight[-size:] = 0.0
        projection.bias[-size:] = constant
    attention.to_out[0].weight[:, -size:] = 0.0


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

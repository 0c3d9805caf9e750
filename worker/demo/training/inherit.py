"""Where transformers begin: `demo` with a sense of place, Kontext and Fill as copies of `demo`."""

import itertools
import math
from typing import Any

import torch

PLACE_BIAS = 1.5

POINTING_HEADS = (2, 1)
"""Heads of each double block that look at Kontext's source: two hold a whole token of 64 channels."""

SHARPNESS = 6.0
"""How much more the keys count in the channels that tell one place from the next."""

_SECOND_WAVE = 0.7
_SOURCE_WAVE = 0.7
"""Strength of the second frequency of rows and columns, and of the source's mark, by the first frequency's."""


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
    for block, heads in zip(kontext.transformer_blocks, POINTING_HEADS, strict=True):
        point_at_source(block.attn, kontext.config.axes_dims_rope, heads)
    _ignore_guidance(kontext)


@torch.no_grad()
def point_at_source(attention: Any, axes: tuple[int, int, int], heads: int) -> None:
    """Let the last heads look from a token at the same place of the source picture.

    Query and key are constant, so only the rotation decides: it favours equal rows and columns, and the
    step of one along the first axis that Kontext gives its source. What the heads found is not used yet.
    """
    size = attention.head_dim
    rows, columns = axes[0], axes[0] + axes[1]
    query, key = torch.zeros(size), torch.zeros(size)
    for start in (rows, columns):
        query[[start, start + 2]] = key[[start, start + 2]] = torch.tensor([1.0, _SECOND_WAVE])
    query[0] = _SOURCE_WAVE
    # The source is rotated by one radian along the first axis. Turned by this angle, the wave rises most
    # steeply between the target (zero) and the source (one).
    turn = 0.5 + math.pi / 2
    key[0], key[1] = _SOURCE_WAVE * math.cos(turn), -_SOURCE_WAVE * math.sin(turn)
    _sharpen(attention, [0, 1, *range(rows, rows + 4), *range(columns, columns + 4)])
    last = heads * size
    for projection, constant in ((attention.to_q, query), (attention.to_k, key)):
        projection.weight[-last:] = 0.0
        projection.bias[-last:] = constant.repeat(heads)
    attention.to_out[0].weight[:, -last:] = 0.0


def _sharpen(attention: Any, channels: list[int]) -> None:
    """Let keys count more in some channels of every head, and take it back from what the heads put there.

    Keys are normalised, so a constant one could not tell a place from its neighbours: without this, a head
    looks at its place with 5 percent of its attention, with it with 94.
    """
    sharp = SHARPNESS / attention.norm_q.weight[channels]
    gain = sharp / attention.norm_k.weight[channels]
    attention.norm_k.weight[channels] = sharp
    attention.to_k.weight.unflatten(0, (attention.heads, -1))[:, channels] /= gain[:, None]
    attention.to_k.bias.unflatten(0, (attention.heads, -1))[:, channels] /= gain


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

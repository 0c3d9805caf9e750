"""A quantized transformer compiles block by block as the exact one does: whole graphs, and no more of them."""

import dataclasses

import pytest
import torch
from torch._dynamo.utils import counters

from shared.catalog import CATALOG
from shared.domain.precision import Precision
from tests.contract.small_card import SHAPE, card, store_on

GRAPHS = 7
"""Three for the first size and four for all others, as many as without quantization."""


def forward(transformer, side):
    tokens, draw = (side // 16) ** 2, torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, generator=draw).to(torch.bfloat16)

    return transformer(
        hidden_states=random(1, tokens, 64),
        encoder_hidden_states=random(1, 24, 128),
        pooled_projections=random(1, 128),
        timestep=torch.tensor([0.5], dtype=torch.bfloat16),
        img_ids=torch.zeros(tokens, 3),
        txt_ids=torch.zeros(24, 3),
        return_dict=False,
    )[0]


@pytest.mark.parametrize(
    ("precision", "has_fp8"), [(Precision.BALANCED, True), (Precision.BALANCED, False), (Precision.COMPACT, False)]
)
@torch.no_grad()
def test_after_two_sizes_every_size_and_every_move_finds_its_code(precision, has_fp8):
    # Given compiled blocks that have seen two sizes
    torch._dynamo.reset()
    counters.clear()
    store = store_on(dataclasses.replace(card(10**9), has_fp8=has_fp8))
    loaded = store.load(CATALOG["demo"], precision)
    transformer, placement = loaded.pipeline.transformer, store.place(loaded, shape=SHAPE)
    with placement.denoising():
        plain = forward(transformer, 96)
        transformer.compile_repeated_blocks(fullgraph=True, backend="aot_eager")
        for side in (64, 128):
            forward(transformer, side)
    # When its weights went and came, and a third size is asked for
    store.residency.evict(store.residency.resident())
    with placement.denoising(), torch.compiler.set_stance("fail_on_recompile"):
        compiled = forward(transformer, 96)
    # Then nothing was compiled for it, and it is what eager mode computes
    assert counters["stats"]["unique_graphs"] == GRAPHS
    assert torch.allclose(compiled, plain, rtol=0.02, atol=0.02)

"""Latents to pixels against diffusers' own last step: equal in float32, at most one level away in bfloat16."""

import numpy as np
import pytest
import torch

from shared.catalog import CATALOG
from tests.contract.small_card import SHAPE, SIDE, card, store_on
from worker.pipelines.decode import decode_latents, unpacked


@pytest.mark.parametrize(("dtype", "most_levels"), [(torch.float32, 0), (torch.bfloat16, 1)], ids=str)
@torch.no_grad()
def test_pixels_are_those_of_diffusers_but_for_its_rounding_to_bfloat16(dtype, most_levels):
    # Given latents, and what the pipeline itself makes of them
    store = store_on(card(10**9, dtype=dtype))
    loaded = store.load(CATALOG["demo"])
    pipeline, config = loaded.pipeline, loaded.pipeline.vae.config
    latents = torch.randn(1, (SIDE // 16) ** 2, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    with store.place(loaded, SHAPE).decoding():
        spread = unpacked(pipeline, latents, SIDE, SIDE) / config.scaling_factor + config.shift_factor
        decoded = pipeline.vae.decode(spread, return_dict=False)[0]
        stock = np.asarray(pipeline.image_processor.postprocess(decoded, output_type="pil")[0]).astype(int)
        # When they are decoded here
        found = np.asarray(decode_latents(loaded, latents, SIDE, SIDE)).astype(int)
    # Then only a rounding is between them, and ours is that of the exact values
    difference = np.abs(found - stock)
    assert difference.max() == most_levels
    exact = (decoded[0].double() / 2 + 0.5).clamp(0, 1).mul(255).permute(1, 2, 0).numpy()
    assert np.abs(found - exact).max() <= 0.5 + 1e-4

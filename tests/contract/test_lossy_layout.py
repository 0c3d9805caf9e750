"""Joined projections and channels side by side: only where equal bits are not promised, near the plain form, undone."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from shared.catalog import CATALOG
from shared.domain.acceleration import CHANNELS_LAST_DECODE, FUSED_QKV
from shared.domain.precision import Precision
from tests.contract.small_card import OPTIONS, SHAPE, card, store_on
from tests.contract.test_precision import Context
from worker.demo.renderer import render
from worker.demo.world import Scene, Thing
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.decode import tiled
from worker.pipelines.lossy_layout import channels_last, fuse_qkv
from worker.pipelines.quantization import quantize
from worker.pipelines.weight_formats import FP8_ROWWISE, INT8, NF4

QUANTIZED = (Precision.BALANCED, Precision.COMPACT)
MOST_LEVELS = {torch.float32: 1, torch.bfloat16: 6}
"""Of 255, at the worst pixel; on average it is a tenth of one."""
MOST_MEAN_LEVELS = 0.2
PROJECTION = 2**-7
"""Relative; one rounding of bfloat16."""


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=str)
def generator(request):
    return FluxLocalGenerator(store_on(card(10**9, dtype=request.param)))


def paint(generator, precision, model="demo", **changes):
    context = Context()
    options = {**OPTIONS[model], **changes}
    picture = generator.generate("a red circle", context=context, model=model, precision=precision, **options)[0]
    return np.asarray(picture), context


def attention_of(loaded):
    return loaded.pipeline.transformer.transformer_blocks[0].attn


class TestWhoHasIt:
    @pytest.mark.parametrize("precision", Precision)
    def test_jobs_that_do_not_promise_equal_bits_and_their_results_name_it(self, generator, precision):
        _, context = paint(generator, precision)
        named = {FUSED_QKV, CHANNELS_LAST_DECODE} & {*context.accelerations}
        assert named == (set() if precision is Precision.EXACT else {FUSED_QKV, CHANNELS_LAST_DECODE})
        assert not any(acceleration.lossless for acceleration in named)

    @pytest.mark.parametrize("precision", Precision)
    def test_three_projections_are_one_or_three_and_never_both(self, generator, precision):
        names = {name for name, _ in attention_of(generator.store.load(CATALOG["demo"], precision)).named_children()}
        if precision is Precision.EXACT:
            assert {"to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"} < names
        else:
            assert {"to_qkv", "to_added_qkv"} < names
        assert ("to_qkv" in names) != ("to_q" in names)

    def test_the_vae_sees_its_numbers_so_only_while_such_a_job_decodes(self, generator):
        # Given an eye on the first convolution of the shared VAE
        seen = []
        vae = generator.store.load(CATALOG["demo"]).pipeline.vae

        def look(_layer, inputs):
            seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

        handle = vae.decoder.conv_in.register_forward_hook(lambda layer, inputs, _: look(layer, inputs))
        try:
            for precision in (*Precision, Precision.EXACT):
                paint(generator, precision)
        finally:
            handle.remove()
        assert seen == [False, True, True, False]


class TestHowNearItIs:
    @pytest.mark.parametrize("weight_format", [INT8, FP8_ROWWISE, NF4], ids=lambda found: found.name)
    def test_a_joined_projection_holds_the_values_of_the_three(self, weight_format):
        # Given one attention, quantized as it is and quantized after it was joined
        plain, joined = (store_on(card(10**9)).load(CATALOG["demo"]) for _ in range(2))
        fuse_qkv(joined.pipeline.transformer)
        for loaded in (plain, joined):
            quantize(loaded.pipeline.transformer, weight_format, torch.device("cpu"))
        inputs = torch.randn(1, 9, 128, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
        for one, three in (("to_qkv", ("to_q", "to_k", "to_v")), ("to_added_qkv", ("add_q_proj", "add_k_proj"))):
            together = getattr(attention_of(joined), one)
            apart = [getattr(attention_of(plain), name) for name in three]
            size = sum(part.packed.numel() for part in apart)
            packed = torch.cat([part.packed.view(torch.uint8).flatten() for part in apart])
            assert torch.equal(together.packed.view(torch.uint8).flatten()[:size], packed)
            # Then its results are theirs, but for one rounding
            found = together(inputs)
            for part, values in zip(apart, torch.split(found, apart[0].out_features, dim=-1), strict=False):
                assert torch.allclose(values, part(inputs), rtol=PROJECTION, atol=PROJECTION)

    @pytest.mark.parametrize("tiling", [nullcontext, tiled], ids=["whole", "tiled"])
    @torch.no_grad()
    def test_a_picture_decoded_so_differs_by_a_few_levels(self, generator, tiling):
        # Given the latents of a picture
        vae, dtype = generator.store.load(CATALOG["demo"]).pipeline.vae, generator.store.device.dtype
        scene = Scene("blue", Thing("red", "circle", "large", "center"))
        picture = torch.from_numpy(np.asarray(render(scene)) / 127.5 - 1).permute(2, 0, 1)[None].to(dtype)
        with generator.store.place(generator.store.load(CATALOG["demo"]), SHAPE).decoding():
            latents = vae.encode(picture).latent_dist.mode()
            # When they are decoded in both ways
            with tiling(*([vae] if tiling is tiled else [])):
                plain = levels(vae.decode(latents, return_dict=False)[0])
                with channels_last(vae):
                    other = levels(vae.decode(latents, return_dict=False)[0])
                again = levels(vae.decode(latents, return_dict=False)[0])
        # Then the difference is small, and gone afterwards
        assert (plain - other).abs().max() <= MOST_LEVELS[dtype]
        assert (plain - other).abs().mean() <= MOST_MEAN_LEVELS
        assert torch.equal(plain, again)


def levels(decoded):
    """Return pixels of 0..255, as ``decode_latents`` makes them."""
    return (decoded[0].float() / 2 + 0.5).clamp(0, 1).mul(255).round()


class TestUndone:
    @pytest.mark.parametrize("precision", QUANTIZED)
    @pytest.mark.parametrize("model", OPTIONS)
    def test_an_exact_job_afterwards_is_equal_to_the_last_bit(self, generator, precision, model):
        before, _ = paint(generator, Precision.EXACT, model)
        first, _ = paint(generator, precision, model)
        again, _ = paint(generator, precision, model)
        after, context = paint(generator, Precision.EXACT, model)
        assert np.array_equal(before, after)
        assert np.array_equal(first, again)
        assert context.accelerations == []

    def test_also_after_a_decode_that_failed(self, generator):
        vae = generator.store.load(CATALOG["demo"]).pipeline.vae
        before = [len(layer._forward_pre_hooks) for layer in vae.modules()]
        with pytest.raises(ValueError, match="half-way"), channels_last(vae):
            raise ValueError("half-way")
        assert [len(layer._forward_pre_hooks) for layer in vae.modules()] == before

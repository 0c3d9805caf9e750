import random

import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline, FluxPipeline

from worker.demo.architecture import make_autoencoder
from worker.demo.patch_code import install_encoder, polynomials
from worker.demo.renderer import pixels
from worker.demo.training.batches import pack_mask
from worker.demo.training.latent_bank import LatentBank, patch_shares
from worker.demo.world import Scene, Thing, random_scene


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    vae = make_autoencoder()
    install_encoder(vae)
    return vae


@torch.no_grad()
def encode(vae, levels: np.ndarray) -> torch.Tensor:
    picture = torch.from_numpy(levels).permute(2, 0, 1)[None] / 127.5 - 1
    return vae.encode(picture).latent_dist


def test_polynomials_are_orthonormal_over_a_patch() -> None:
    axis = torch.arange(8) - 3.5
    x, y = axis[None, :].expand(8, 8), axis[:, None].expand(8, 8)
    powers = torch.stack([torch.ones(8, 8), x, y, x * y, x**2, y**2]).flatten(1)
    values = polynomials() @ powers
    assert torch.allclose(values @ values.T / 64, torch.eye(6), atol=1e-4)


def test_encoder_is_exact_local_and_silent(vae) -> None:
    scene = Scene("blue", Thing("red", "circle", "large", "top left"))
    code, empty = encode(vae, pixels(scene)), encode(vae, pixels(Scene("blue")))
    assert float(code.std.max()) < 1e-6
    far = (slice(None), slice(None), slice(18, None), slice(18, None))
    assert torch.allclose(code.mode()[far], empty.mode()[far], atol=1e-3)
    flat = empty.mode()[0]
    assert flat[3:].abs().max() < 1e-3
    assert float(flat[:3].std(dim=(1, 2)).max()) < 1e-3


def test_latents_have_unit_scale(vae) -> None:
    rng = random.Random(0)
    means = torch.cat([encode(vae, pixels(random_scene(rng))).mode()[:, :3] for _ in range(40)])
    assert 0.7 < float(means.std()) < 1.3
    assert abs(float(means.mean())) < 0.4


def test_bank_agrees_with_encoder_and_packing(vae) -> None:
    bank = LatentBank(2, torch.device("cpu"))
    offset, stretch = bank.strays[1]
    scenes = [Scene("blue", Thing("yellow", "triangle", "small", "right", offset, stretch)), Scene("green")]
    for scene, tokens in zip(scenes, bank.tokens(scenes), strict=True):
        packed = FluxPipeline._pack_latents(encode(vae, pixels(scene)).mode(), 1, 16, 32, 32)
        assert torch.allclose(tokens, packed[0], atol=2e-3)


def test_bank_greys_what_a_mask_hides(vae) -> None:
    bank = LatentBank(1, torch.device("cpu"))
    mask = torch.zeros(1, 256, 256)
    mask[:, 50:201, 33:122] = 1
    grey = (pixels(Scene("orange")) - 127.5) * (1 - mask[0, :, :, None].numpy()) + 127.5
    packed = FluxPipeline._pack_latents(encode(vae, grey).mode(), 1, 16, 32, 32)
    tokens = bank.tokens([Scene("orange")], kept=patch_shares(1 - mask))
    assert torch.allclose(tokens, packed, atol=2e-3)


def test_masks_are_packed_as_the_fill_pipeline_packs_them() -> None:
    masks = torch.rand(2, 256, 256)
    # As FluxFillPipeline.prepare_mask_latents: 8x8 pixels become channels, then 2x2 places a token.
    channels = masks.view(2, 32, 8, 32, 8).permute(0, 2, 4, 1, 3).reshape(2, 64, 32, 32)
    assert torch.equal(pack_mask(masks), FluxFillPipeline._pack_latents(channels, 2, 64, 32, 32))

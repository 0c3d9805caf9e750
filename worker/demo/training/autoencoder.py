"""Stage `vae`: the decoder learns to draw clean pictures from patch codes, also from slightly wrong ones."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.demo.patch_code import install_encoder
from worker.demo.renderer import NATIVE_SIZE, Pixels, coverage
from worker.demo.training.stage import Machine
from worker.demo.vocabulary import COLOURS
from worker.demo.world import Thing, random_scene

CROP = 64
MAX_LATENT_NOISE = 0.35
OTHER_COLOURS_SHARE = 0.1
"""Share of crops in colours beyond the palette, so that the decoder does not only know eight."""

_STEADY = 16.0


def prepare_autoencoder(vae: Any) -> None:
    """Set the encoder by hand, freeze it, and start the decoder where it learns fast."""
    install_encoder(vae)
    vae.encoder.requires_grad_(False)
    steady_norms(vae.decoder)


@torch.no_grad()
def steady_norms(decoder: Any) -> None:
    """Give every group norm two large constant channels.

    A norm over the whole picture would scale a crop of an edge and a flat picture differently. The
    constants outweigh the rest, so the norms start as fixed scales, and what is learned on crops holds
    for whole pictures.
    """
    resnets = [*decoder.mid_block.resnets, *(r for up in decoder.up_blocks for r in up.resnets)]
    upsamplers = [up.upsamplers[0].conv for up in decoder.up_blocks if up.upsamplers]
    for resnet in resnets:
        resnet.conv2.weight.zero_()
        resnet.conv2.bias.zero_()
        if resnet.conv_shortcut is not None:
            _make_constant(resnet.conv_shortcut)
    for conv in [decoder.conv_in, *upsamplers, *(resnet.conv1 for resnet in resnets)]:
        _make_constant(conv)
    for norm in [decoder.conv_norm_out, *(norm for r in resnets for norm in (r.norm1, r.norm2))]:
        norm.weight.fill_((1 + 2 * _STEADY**2 / norm.num_channels) ** 0.5)
        norm.weight[-2:] = 0.0


def _make_constant(conv: nn.Conv2d) -> None:
    """Let the last two output channels be plus and minus the same constant."""
    conv.weight[-2:] = 0.0
    if conv.bias is not None:
        conv.bias[-2:] = torch.tensor([_STEADY, -_STEADY])


def decoder_loss(vae: Any, batch: int, machine: Machine, step: int) -> Tensor:
    """Compare decoded crops with the true ones; most codes are disturbed as a transformer would."""
    crops = random_crops(batch, random.Random(step)).to(machine.device)
    with torch.no_grad():
        codes = vae.encode(crops).latent_dist.mode()
        noise = MAX_LATENT_NOISE * torch.rand(batch, 1, 1, 1, device=machine.device) ** 2
        codes = codes + noise * torch.randn_like(codes)
    decoded = vae.decode(codes).sample
    return functional.l1_loss(decoded, crops) + functional.mse_loss(decoded, crops)


def random_crops(count: int, rng: random.Random) -> Tensor:
    """Cut crops near the outlines of objects, in colours of the palette and now and then in others."""
    crops = np.stack([_random_crop(rng) for _ in range(count)])
    return torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous() / 127.5 - 1.0


def _random_crop(rng: random.Random) -> Pixels:
    """Cut one crop on the grid of the patches."""
    thing = random_scene(rng).thing
    assert thing is not None  # no share of empty scenes was asked for
    share = coverage(thing)[_crop_start(thing, 1, rng) :, _crop_start(thing, 0, rng) :][:CROP, :CROP, None]
    front, back = _colours(rng)
    crop: Pixels = back + share * (front - back)
    return crop


def _crop_start(thing: Thing, axis: int, rng: random.Random) -> int:
    """Choose where the crop begins along one axis: mostly so that it cuts the outline."""
    reach = 1.3 * thing.radius
    middle = (thing.centre[axis] + rng.uniform(-reach, reach)) * NATIVE_SIZE
    start = round((middle - CROP / 2) / 8) * 8
    return min(max(start, 0), NATIVE_SIZE - CROP)


def _colours(rng: random.Random) -> tuple[Pixels, Pixels]:
    """Draw the two colours of a crop."""
    if rng.random() < OTHER_COLOURS_SHARE:
        colours = np.array([[rng.uniform(0, 255) for _ in range(3)] for _ in range(2)], np.float32)
    else:
        colours = np.array(rng.sample(list(COLOURS.values()), 2), np.float32)
    return colours[0], colours[1]

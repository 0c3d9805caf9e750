"""The latent code of the family, set by hand: what an 8x8 patch looks like to second order.

The tiny world is flat colours and straight or round edges, so nothing has to be learned here. A place of
the latent picture holds, for three opponent colours, the mean of its patch, its slopes and its
curvatures: orthonormal polynomials, 16 in all. The encoder computes them exactly, level by level, by the
moments of quarter patches; it has no noise of its own and no dependence on the rest of the picture.
"""

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from worker.demo.vocabulary import COLOURS

MOMENTS = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2))
"""Powers of x (to the right) and y (down) whose mean over a patch is tracked per colour."""

# Curvature along one axis is kept for two colours only, which makes 16.
LATENT_PARTS = (*product(range(4), range(3)), *product((4, 5), range(2)))
"""Polynomial and opponent colour of every latent channel."""

_OPPONENTS = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
_CONSTANT = 512.0
_SILENT_LOG_VARIANCE = -30.0


def colour_code() -> tuple[Tensor, Tensor]:
    """Matrix and mean that turn RGB in [-1, 1] into opponent colours of unit variance over the palette."""
    palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32) / 127.5 - 1.0
    mean = palette.mean(dim=0)
    spread = ((palette - mean) @ _OPPONENTS.T).std(dim=0, unbiased=False)
    return _OPPONENTS / spread[:, None], mean


def polynomials() -> Tensor:
    """Rows that turn the six moments of an 8x8 patch into orthonormal mean, slopes and curvatures."""
    grid = torch.arange(8) - 3.5
    x, y = grid[None, :].expand(8, 8), grid[:, None].expand(8, 8)
    powers = torch.stack([x**a * y**b for a, b in MOMENTS]).flatten(1).double()
    gram = powers @ powers.T / 64
    rows: Tensor = torch.linalg.inv(torch.linalg.cholesky(gram))
    return rows.float()


def latent_rows() -> Tensor:
    """Rows (16 x 18) that turn the moments of red, green and blue into the latent channels."""
    colours, _ = colour_code()
    table = polynomials()
    return torch.stack([torch.outer(colours[colour], table[order]).flatten() for order, colour in LATENT_PARTS])


def latent_offset() -> Tensor:
    """What the mean colour of the palette would give, taken off so that latents are centred."""
    _, mean = colour_code()
    patch = torch.zeros(3, len(MOMENTS))
    for index, (a, b) in enumerate(MOMENTS):
        patch[:, index] = mean * _mean_power(a) * _mean_power(b)
    return latent_rows() @ patch.flatten()


def _mean_power(power: int) -> float:
    """Mean of x**power over the eight columns of a patch."""
    return float(((torch.arange(8) - 3.5) ** power).mean())


@torch.no_grad()
def install_encoder(vae: Any) -> None:
    """Set the encoder's weights so that `encode` returns the patch code and no noise."""
    encoder = vae.encoder
    for block in [*(down.resnets[0] for down in encoder.down_blocks), *encoder.mid_block.resnets]:
        _silence(block.conv2)
    _silence(encoder.conv_in)
    for colour in range(3):
        encoder.conv_in.weight[colour, colour, 1, 1] = 1.0
    known: tuple[tuple[int, int], ...] = MOMENTS[:1]
    reach = 0.5
    for level, tracked in enumerate((MOMENTS[:4], MOMENTS, MOMENTS)):
        down = encoder.down_blocks[level]
        _join_quarters(down.downsamplers[0].conv, known, tracked, reach)
        known, reach = tracked, 2 * reach
        following = encoder.down_blocks[level + 1].resnets[0].conv_shortcut
        _silence(following)
        if level < 2:
            _pass_moments(following, known, MOMENTS, reach)
            known = MOMENTS
    _emit_latents(encoder.down_blocks[3].resnets[0].conv_shortcut, encoder.conv_norm_out, encoder.conv_out)


def _silence(conv: nn.Conv2d) -> None:
    """Make a convolution answer zero."""
    conv.weight.zero_()
    if conv.bias is not None:
        conv.bias.zero_()


def _join_quarters(
    conv: nn.Conv2d, known: tuple[tuple[int, int], ...], tracked: tuple[tuple[int, int], ...], reach: float
) -> None:
    """Compute the moments of a patch from those of its quarters, whose centres lie `reach` off its own."""
    _silence(conv)
    for row, column in product(range(2), range(2)):
        x, y = (2 * column - 1) * reach, (2 * row - 1) * reach
        for target, (a, b) in enumerate(tracked):
            for source, (c, d) in enumerate(known):
                if c > a or d > b:
                    continue
                share = _binomial(a, c) * x ** (a - c) * _binomial(b, d) * y ** (b - d) / 4
                for colour in range(3):
                    conv.weight[colour * len(tracked) + target, colour * len(known) + source, row, column] = share


def _binomial(n: int, k: int) -> int:
    """Count the ways to choose k of n, for n up to two."""
    return 2 if (n, k) == (2, 1) else 1


def _pass_moments(
    conv: nn.Conv2d, known: tuple[tuple[int, int], ...], wanted: tuple[tuple[int, int], ...], reach: float
) -> None:
    """Hand moments on; in a patch of 2x2 pixels every x**2 is a quarter, so it follows from the mean."""
    for target, power in enumerate(wanted):
        source, share = (known.index(power), 1.0) if power in known else (0, (reach / 2) ** 2)
        for colour in range(3):
            conv.weight[colour * len(wanted) + target, colour * len(known) + source, 0, 0] = share


def _emit_latents(shortcut: nn.Conv2d, norm: nn.GroupNorm, conv_out: nn.Conv2d) -> None:
    """Undo normalisation and activation, which every AutoencoderKL has before its last convolution.

    Two huge constant channels of opposite sign fix the normaliser's mean and scale. The activation is
    undone by silu(x) - silu(-x) = x.
    """
    rows, offset = latent_rows(), latent_offset()
    count = len(rows)
    for sign, start in ((1.0, 0), (-1.0, count)):
        shortcut.weight[start : start + count, : rows.shape[1], 0, 0] = sign * rows
        shortcut.bias[start : start + count] = -sign * offset  # type: ignore[index]
    shortcut.bias[-2:] = torch.tensor([_CONSTANT, -_CONSTANT])  # type: ignore[index]
    norm.weight.fill_(_CONSTANT * (2 / norm.num_channels) ** 0.5)
    norm.bias.zero_()
    _silence(conv_out)
    for channel in range(count):
        conv_out.weight[channel, channel, 1, 1] = 1.0
        conv_out.weight[channel, count + channel, 1, 1] = -1.0
    conv_out.bias[count:] = _SILENT_LOG_VARIANCE  # type: ignore[index]

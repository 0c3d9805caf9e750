"""The least-squares fit of ``LatentRgb`` with a model's own VAE, on pictures made from a seed.

So it works for any VAE, and nobody's numbers are copied. ``python -m worker.pipelines.latent_rgb_fit`` writes the map
of the demo family's VAE, which the project ships.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import numpy as np
import torch

from shared.catalog import CATALOG
from worker.pipelines.device import pick_device
from worker.pipelines.latent_rgb import LatentRgb, file_name
from worker.pipelines.loader import Loader
from worker.pipelines.weights import SHIPPED_LATENT_RGB, Weights

_PICTURES: Final = 24
_SIDE: Final = 64
_SEED: Final = 0
_CELLS: Final = (1, 2, 4, 8, 16, 32)
"""Colours per side of a picture: from a flat one to texture finer than a latent's place."""


@torch.no_grad()
def fit_latent_rgb(vae: Any, device: torch.device) -> LatentRgb:
    """Fit the map for an ``AutoencoderKL`` on its device: 24 pictures of 64 x 64 pixels are encoded one by one.

    Latents are scaled as in the pipelines: ``(z - shift_factor) * scaling_factor`` (diffusers 0.42).
    """
    random = torch.Generator("cpu").manual_seed(_SEED)
    places, colours = [], []
    for index in range(_PICTURES):
        picture = _picture(_CELLS[index % len(_CELLS)], smooth=index // len(_CELLS) % 2 == 0, random=random)
        encoded = vae.encode(picture.to(device, vae.dtype)).latent_dist.mode()
        latents = (encoded.float() - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
        places.append(_rows(latents.cpu()))
        colours.append(_rows(torch.nn.functional.adaptive_avg_pool2d(picture, latents.shape[-2:])))
    known, wanted = np.concatenate(places), np.concatenate(colours)
    known = np.concatenate([known, np.ones((len(known), 1))], axis=1)
    solution = np.linalg.lstsq(known, wanted, rcond=1e-6)[0]
    explained = 1 - np.square(known @ solution - wanted).sum() / np.square(wanted - wanted.mean(axis=0)).sum()
    fitted = torch.from_numpy(solution.astype(np.float32))
    return LatentRgb(fitted[:-1], fitted[-1], round(float(explained), 4))


def _rows(values: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return values of shape (1, channels, rows, columns) as (places, channels)."""
    return values[0].flatten(1).T.double().numpy()


def _picture(cells: int, *, smooth: bool, random: torch.Generator) -> torch.Tensor:
    """Return a picture of shape (1, 3, side, side) in -1..1: random colours in squares, with hard or smooth borders."""
    coarse = torch.rand(1, 3, cells, cells, generator=random) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(_SIDE, _SIDE), mode="bilinear" if smooth else "nearest")


def main() -> None:
    """Write the demo family's map into the package, and say how good it is."""
    device = pick_device("cpu")
    demo = Loader(Weights(), device).load(CATALOG["demo"])
    fitted = fit_latent_rgb(demo.pipeline.vae, device.torch_device)
    path = SHIPPED_LATENT_RGB / file_name(demo.digests["vae"])
    fitted.write(path)
    sys.stdout.write(json.dumps({"path": str(path), "explained": fitted.explained}) + "\n")


if __name__ == "__main__":
    main()

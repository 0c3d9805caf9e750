"""Packed latents of any scene without rendering it: the patch code is linear in the object's coverage."""

import random
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from worker.demo.patch_code import LATENT_PARTS, MOMENTS, colour_code, polynomials
from worker.demo.renderer import NATIVE_SIZE, coverage
from worker.demo.vocabulary import COLOURS, POSITIONS, SHAPES, SIZES
from worker.demo.world import Scene, Thing, stray

GRID = NATIVE_SIZE // 16
"""Tokens along one side of a native picture."""


def patch_shares(pictures: Tensor) -> Tensor:
    """Write single-channel pictures (n x height x width) as polynomials per patch, packed into tokens.

    The result is n x tokens x 6 x 4: the last axis runs over the 2x2 patches of a token.
    """
    count, height, width = pictures.shape
    axis = torch.arange(8, device=pictures.device) - 3.5
    powers = torch.stack([(axis[None, :] ** a) * (axis[:, None] ** b) for a, b in MOMENTS]) / 64
    rows = torch.einsum("pm,mij->pij", polynomials().to(pictures.device), powers)
    patches = pictures.reshape(count, height // 16, 2, 8, width // 16, 2, 8)
    shares = torch.einsum("nhyiwxj,pij->nhwpyx", patches, rows)
    return shares.reshape(count, (height // 16) * (width // 16), len(MOMENTS), 4)


@dataclass(frozen=True)
class Code:
    """The linear map from coverage and colours to packed latents, on one device."""

    order: Tensor
    opponent: Tensor
    palette: Tensor
    centre: Tensor

    @classmethod
    def on(cls, device: torch.device) -> "Code":
        """Build the map."""
        matrix, mean = colour_code()
        palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32) / 127.5 - 1.0
        return cls(
            order=torch.tensor([order for order, _ in LATENT_PARTS], device=device),
            opponent=torch.tensor([opponent for _, opponent in LATENT_PARTS], device=device),
            palette=(palette @ matrix.T).to(device),
            centre=(matrix @ mean).to(device),
        )

    def colour_tokens(self, shares: Tensor, colours: Tensor) -> Tensor:
        """Give shares (n x tokens x 6 x 4) a colour each (n x 3): n x tokens x 64, packed as FLUX packs."""
        parts = shares[:, :, self.order, :] * colours[:, self.opponent][:, None, :, None]
        return parts.flatten(2)


class LatentBank:
    """Coverage of every shape, size and place, in some variants of what no caption names."""

    def __init__(self, variants: int, device: torch.device, seed: int = 0) -> None:
        self.code = Code.on(device)
        rng = random.Random(seed)
        probe = Thing("red", SHAPES[0], SIZES[0], "center")
        strays = [stray(probe, rng) for _ in range(variants)]
        keys = list(product(SHAPES, SIZES, POSITIONS))
        self._row = {key: index * variants for index, key in enumerate(keys)}
        self._variant = {(thing.offset, thing.stretch): index for index, thing in enumerate(strays)}
        self.strays = [(thing.offset, thing.stretch) for thing in strays]
        blocks = []
        for shape, size, position in keys:
            things = [Thing("red", shape, size, position, thing.offset, thing.stretch) for thing in strays]
            pictures = torch.from_numpy(np.stack([coverage(thing) for thing in things]))
            blocks.append(patch_shares(pictures).half())
        empty = patch_shares(torch.zeros(1, NATIVE_SIZE, NATIVE_SIZE)).half()
        self._shares = torch.cat([*blocks, empty]).to(device)
        self._full = patch_shares(torch.ones(1, NATIVE_SIZE, NATIVE_SIZE)).to(device)

    def shares(self, scenes: list[Scene]) -> Tensor:
        """Coverage of the scenes' objects, whose stray values must be the bank's."""
        return self._shares[[self._index(scene.thing) for scene in scenes]].float()

    def tokens(self, scenes: list[Scene], kept: Tensor | None = None) -> Tensor:
        """Packed latents of whole scenes, or of scenes whose pixels outside `kept` (as shares) are grey."""
        code = self.code
        back = self._colours([scene.background for scene in scenes])
        front = self._colours([scene.thing.colour if scene.thing else scene.background for scene in scenes])
        ground = code.colour_tokens(self._full if kept is None else kept, back)
        objects = code.colour_tokens(self.shares(scenes), front - back) if kept is None else 0.0
        return ground + objects - code.colour_tokens(self._full, code.centre[None])

    def _colours(self, names: list[str]) -> Tensor:
        """Opponent colours of the names."""
        order = list(COLOURS)
        return self.code.palette[[order.index(name) for name in names]]

    def _index(self, thing: Thing | None) -> int:
        """Find the row of an object."""
        if thing is None:
            return len(self._shares) - 1
        row = self._row[thing.shape, thing.size, thing.position]
        return row + self._variant[thing.offset, thing.stretch]

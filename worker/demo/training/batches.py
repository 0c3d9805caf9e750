"""What one training step shows: scenes with captions, edits with their sources, fills with their masks."""

import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from worker.demo.captions import any_caption, full_caption
from worker.demo.edits import EDIT_KINDS, random_edit
from worker.demo.fills import FULL_CAPTION_SHARE, random_fill
from worker.demo.training.latent_bank import GRID, LatentBank, patch_shares
from worker.demo.world import Scene, random_scene

EMPTY_SHARE = 0.06

OBJECT_WEIGHT = 160.0
"""Weight of all tokens that the object touches, large or small, beyond that of background tokens, one each."""

CHANGE_WEIGHT = 160.0
"""Further weight of all tokens that an edit changes: a square and a circle differ in few of the object's tokens, and
a model that copies the source loses little otherwise."""

EDIT_SHARES = {"colour": 1, "background": 1, "shape": 9, "size": 3, "position": 4, "removal": 2}
"""How often Kontext sees each kind of edit: drawing an outline anew is harder than wiping it away."""


@dataclass(frozen=True)
class Batch:
    """Prompts, the latents that they ask for, and what the model sees beside the noise."""

    prompts: list[str]
    clean: Tensor
    weight: Tensor
    """How much each token counts in the loss, n x tokens."""

    source: Tensor | None = None
    extra: Tensor | None = None


@dataclass(frozen=True)
class Batches:
    """Draws batches from the bank; the same `rng` gives the same batch."""

    bank: LatentBank

    def captions(self, count: int, rng: random.Random) -> Batch:
        """Draw scenes and what is said of them."""
        scenes = [self._settle(random_scene(rng, empty_share=EMPTY_SHARE), rng) for _ in range(count)]
        prompts = [
            full_caption(scene) if rng.random() < FULL_CAPTION_SHARE else any_caption(scene, rng) for scene in scenes
        ]
        return Batch(prompts, self.bank.tokens(scenes), self._weights(scenes))

    def edits(self, count: int, rng: random.Random) -> Batch:
        """Draw edits; the target keeps what no instruction names."""
        instructions, sources, targets = [], [], []
        for _ in range(count):
            edit = random_edit(rng, kind=rng.choices(EDIT_KINDS, [EDIT_SHARES[kind] for kind in EDIT_KINDS])[0])
            stray = rng.choice(self.bank.strays)
            instructions.append(edit.instruction)
            sources.append(_with_stray(edit.source, stray))
            targets.append(_with_stray(edit.target, stray))
        clean, seen = self.bank.tokens(targets), self.bank.tokens(sources)
        weight = torch.maximum(self._weights(targets), self._weights(sources)) + change_weights(clean, seen)
        return Batch(instructions, clean, weight, source=seen)

    def fills(self, count: int, rng: random.Random) -> Batch:
        """Draw fills; nothing of the old object is left outside the mask."""
        fills = [random_fill(rng) for _ in range(count)]
        targets = [self._settle(fill.target, rng) for fill in fills]
        clean = self.bank.tokens(targets)
        masks = torch.from_numpy(np.stack([fill.box.mask() for fill in fills])).to(clean.device)
        kept = self.bank.tokens(targets, kept=patch_shares(1 - masks))
        extra = torch.cat([kept, pack_mask(masks)], dim=2)
        return Batch([fill.prompt for fill in fills], clean, self._weights(targets), extra=extra)

    def _settle(self, scene: Scene, rng: random.Random) -> Scene:
        """Give the scene stray values that the bank has."""
        return _with_stray(scene, rng.choice(self.bank.strays))

    def _weights(self, scenes: list[Scene]) -> Tensor:
        """Weigh tokens by the mean coverage of their patches."""
        return token_weights(self.bank.shares(scenes)[:, :, 0].amax(dim=2))


def token_weights(coverage: Tensor) -> Tensor:
    """Weigh the tokens that the object touches more, all together the same for few and for many (n x tokens)."""
    touched = (coverage > 0.001).float()
    return 1.0 + OBJECT_WEIGHT * touched / touched.sum(dim=1, keepdim=True).clamp(min=1.0)


def change_weights(clean: Tensor, source: Tensor) -> Tensor:
    """Weigh the tokens in which an edit's target differs from its source, all together the same (n x tokens)."""
    changed = ((clean - source).abs().amax(dim=2) > 0.05).float()
    return CHANGE_WEIGHT * changed / changed.sum(dim=1, keepdim=True).clamp(min=1.0)


def pack_mask(masks: Tensor) -> Tensor:
    """Show every token the 16x16 mask pixels that it repaints, in the order of the Fill pipeline."""
    count = len(masks)
    pixels = masks.reshape(count, GRID, 2, 8, GRID, 2, 8)
    # Row and column within a patch are channels there; FLUX then packs 2x2 patches, the patch last.
    return pixels.permute(0, 1, 4, 3, 6, 2, 5).reshape(count, GRID * GRID, 256)


def _with_stray(scene: Scene, stray: tuple[tuple[float, float], float]) -> Scene:
    """Set what no caption names."""
    if scene.thing is None:
        return scene
    return replace(scene, thing=replace(scene.thing, offset=stray[0], stretch=stray[1]))

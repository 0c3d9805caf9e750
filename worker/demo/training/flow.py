"""Flow matching on packed latents: what one step of `generate`, `kontext` and `fill` loses."""

import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from worker.demo.captions import any_caption, full_caption
from worker.demo.edits import random_edit
from worker.demo.family import Family
from worker.demo.fills import FULL_CAPTION_SHARE, random_fill
from worker.demo.training.latent_bank import GRID, LatentBank, patch_shares
from worker.demo.training.prompts import PromptEncoder
from worker.demo.training.stage import Machine
from worker.demo.world import Scene, random_scene

EMPTY_SHARE = 0.06
START_SHARE = 0.3
"""Share of samples that are pure noise: there the caption alone decides the picture."""

OBJECT_WEIGHT = 160.0
"""Weight of all tokens that the object touches, large or small, beyond that of background tokens, one each."""

GUIDANCE_RANGE = (1.0, 35.0)


@dataclass(frozen=True)
class Batch:
    """Prompts, the latents that they ask for, and what the model sees beside the noise."""

    prompts: list[str]
    clean: Tensor
    weight: Tensor
    source: Tensor | None = None
    extra: Tensor | None = None


@dataclass
class Flow:
    """Everything that the losses of the three transformers share."""

    family: Family
    bank: LatentBank
    machine: Machine
    prompts: PromptEncoder
    batch: int
    sparse_until: int
    """Before this step a random quarter of the tokens is shown, of four times as many pictures."""

    def generate_loss(self, step: int) -> Tensor:
        """Draw the scene that the caption names."""
        return self._loss("demo", step, self._generate_batch(step))

    def kontext_loss(self, step: int) -> Tensor:
        """Draw the scene that the instruction makes of the source."""
        return self._loss("demo-kontext", step, self._edit_batch(step))

    def fill_loss(self, step: int) -> Tensor:
        """Draw the scene that the prompt names where the mask is, and the old one elsewhere."""
        return self._loss("demo-fill", step, self._fill_batch(step))

    def _count(self, step: int) -> int:
        """Pictures in the batch of a step."""
        return self.batch if step < self.sparse_until else max(1, self.batch // 4)

    def _generate_batch(self, step: int) -> Batch:
        """Draw scenes and captions."""
        rng = random.Random(step)
        scenes = [self._settle(random_scene(rng, empty_share=EMPTY_SHARE), rng) for _ in range(self._count(step))]
        prompts = [
            full_caption(scene) if rng.random() < FULL_CAPTION_SHARE else any_caption(scene, rng) for scene in scenes
        ]
        return Batch(prompts, self.bank.tokens(scenes), self._weights(scenes))

    def _edit_batch(self, step: int) -> Batch:
        """Draw edits; the source keeps what no caption names."""
        rng = random.Random(step)
        edits, sources, targets = [], [], []
        for _ in range(self._count(step)):
            edit = random_edit(rng)
            stray = rng.choice(self.bank.strays)
            edits.append(edit.instruction)
            sources.append(_with_stray(edit.source, stray))
            targets.append(_with_stray(edit.target, stray))
        weight = torch.maximum(self._weights(targets), self._weights(sources))
        return Batch(edits, self.bank.tokens(targets), weight, source=self.bank.tokens(sources))

    def _fill_batch(self, step: int) -> Batch:
        """Draw fills; nothing of the old object is left outside the mask."""
        rng = random.Random(step)
        fills = [random_fill(rng) for _ in range(self._count(step))]
        targets = [self._settle(fill.target, rng) for fill in fills]
        masks = torch.from_numpy(np.stack([fill.box.mask() for fill in fills])).to(self.machine.device)
        kept = self.bank.tokens(targets, kept=patch_shares(1 - masks))
        extra = torch.cat([kept, pack_mask(masks)], dim=2)
        return Batch([fill.prompt for fill in fills], self.bank.tokens(targets), self._weights(targets), extra=extra)

    def _settle(self, scene: Scene, rng: random.Random) -> Scene:
        """Give the scene stray values that the bank has."""
        return _with_stray(scene, rng.choice(self.bank.strays))

    def _weights(self, scenes: list[Scene]) -> Tensor:
        """Weigh the tokens that the object touches more; a small object has few."""
        touched = (self.bank.shares(scenes)[:, :, 0].amax(dim=2) > 0.001).float()
        return 1.0 + OBJECT_WEIGHT * touched / touched.sum(dim=1, keepdim=True).clamp(min=1.0)

    def _loss(self, model: str, step: int, batch: Batch) -> Tensor:
        """Compare the transformer's velocity with the true one on the shown tokens."""
        device = self.machine.device
        shown = torch.arange(GRID * GRID, device=device)
        if step < self.sparse_until:
            shown = torch.randperm(GRID * GRID, device=device)[: GRID * GRID // 4].sort().values
        clean, weight = batch.clean[:, shown], batch.weight[:, shown]
        noise = torch.randn_like(clean)
        time = random_times(len(clean), device)
        level = time[:, None, None]
        noisy = (1 - level) * clean + level * noise
        velocity = self._velocity(model, batch, noisy, time, shown)
        # Weighing by the noise level lies between errors of velocity and errors of the picture.
        error = (velocity.float() - (noise - clean)).square().mean(dim=2)
        return (error * weight * time[:, None]).sum() / (weight * time[:, None]).sum()

    def _velocity(self, model: str, batch: Batch, noisy: Tensor, time: Tensor, shown: Tensor) -> Tensor:
        """Call the transformer as its pipeline does."""
        transformer = self.family.transformers[model]
        ids = image_ids(shown)
        tokens = noisy
        if batch.source is not None:
            tokens = torch.cat([noisy, batch.source[:, shown]], dim=1)
            ids = torch.cat([ids, ids + torch.tensor([1.0, 0.0, 0.0], device=ids.device)])
        if batch.extra is not None:
            tokens = torch.cat([noisy, batch.extra[:, shown]], dim=2)
        guidance = None
        if transformer.config.guidance_embeds:
            guidance = torch.empty_like(time).uniform_(*GUIDANCE_RANGE)
        states, pooled = self.prompts(batch.prompts)
        velocity: Tensor = transformer(
            hidden_states=tokens,
            encoder_hidden_states=states,
            pooled_projections=pooled,
            timestep=time,
            guidance=guidance,
            img_ids=ids,
            txt_ids=torch.zeros(states.shape[1], 3, device=ids.device),
            return_dict=False,
        )[0]
        return velocity[:, : noisy.shape[1]]


def _with_stray(scene: Scene, stray: tuple[tuple[float, float], float]) -> Scene:
    """Set what no caption names."""
    if scene.thing is None:
        return scene
    return replace(scene, thing=replace(scene.thing, offset=stray[0], stretch=stray[1]))


def random_times(count: int, device: torch.device) -> Tensor:
    """Draw noise levels: often the start, else the levels of four steps and all others alike."""
    kind = torch.rand(count, device=device)
    quarters = torch.randint(1, 4, (count,), device=device) / 4
    times = torch.where(kind < 0.8, quarters, torch.rand(count, device=device).clamp(min=0.02))
    return torch.where(kind < START_SHARE, torch.ones_like(times), times)


def image_ids(shown: Tensor) -> Tensor:
    """Rotary positions of the shown tokens."""
    return torch.stack([torch.zeros_like(shown), shown // GRID, shown % GRID], dim=1).float()


def pack_mask(masks: Tensor) -> Tensor:
    """Show every token the 16x16 mask pixels that it repaints, in the order of the Fill pipeline."""
    count = len(masks)
    pixels = masks.reshape(count, GRID, 2, 8, GRID, 2, 8)
    # Row and column within a patch are channels there; FLUX then packs 2x2 patches, the patch last.
    return pixels.permute(0, 1, 4, 3, 6, 2, 5).reshape(count, GRID * GRID, 256)

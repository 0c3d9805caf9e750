"""Flow matching on packed latents: what one step of `generate`, `kontext` and `fill` loses."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from worker.demo.family import Family
from worker.demo.training.batches import Batch, Batches
from worker.demo.training.latent_bank import GRID
from worker.demo.training.prompts import PromptEncoder
from worker.demo.training.stage import Machine

START_SHARE = 0.3
"""Share of samples that are pure noise: there the caption alone decides the picture."""

GUIDANCE_RANGE = (1.0, 35.0)


@dataclass
class Flow:
    """Everything that the losses of the three transformers share."""

    family: Family
    batches: Batches
    machine: Machine
    prompts: PromptEncoder
    batch: int
    sparse_until: int
    """Before this step a random quarter of the tokens is shown, of four times as many pictures."""

    def generate_loss(self, step: int) -> Tensor:
        """Draw the scene that the caption names."""
        return self._loss("demo", step, self.batches.captions)

    def kontext_loss(self, step: int) -> Tensor:
        """Draw the scene that the instruction makes of the source."""
        return self._loss("demo-kontext", step, self.batches.edits)

    def fill_loss(self, step: int) -> Tensor:
        """Draw the scene that the prompt names where the mask is, and the old one elsewhere."""
        return self._loss("demo-fill", step, self.batches.fills)

    def _loss(self, model: str, step: int, draw: Callable[[int, random.Random], Batch]) -> Tensor:
        """Compare the transformer's velocity with the true one on the shown tokens."""
        device = self.machine.device
        sparse = step < self.sparse_until
        batch = draw(self.batch if sparse else max(1, self.batch // 4), random.Random(step))
        shown = torch.arange(GRID * GRID, device=device)
        if sparse:
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


def random_times(count: int, device: torch.device) -> Tensor:
    """Draw noise levels: often the start, else the levels of four steps and all others alike."""
    kind = torch.rand(count, device=device)
    quarters = torch.randint(1, 4, (count,), device=device) / 4
    times = torch.where(kind < 0.8, quarters, torch.rand(count, device=device).clamp(min=0.02))
    return torch.where(kind < START_SHARE, torch.ones_like(times), times)


def image_ids(shown: Tensor) -> Tensor:
    """Rotary positions of the shown tokens."""
    return torch.stack([torch.zeros_like(shown), shown // GRID, shown % GRID], dim=1).float()

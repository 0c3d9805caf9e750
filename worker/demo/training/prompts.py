"""Prompts as the pipelines encode them; what frozen encoders say of a prompt is kept."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from worker.demo.family import Family
from worker.demo.tokenization import MAX_SEQUENCE_LENGTH

MAX_KEPT = 20_000
"""Prompts to remember, at 13 kB each; the full captions and the instructions are far fewer."""


@dataclass
class PromptEncoder:
    """T5 states and the pooled CLIP state of prompts, on one device."""

    family: Family
    device: torch.device
    frozen: bool = False
    """Whether the text encoders stay as they are, so that each prompt is encoded once."""

    _kept: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __call__(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Give n x tokens x width and n x width."""
        if not self.frozen:
            return self._encode(prompts)
        found = {prompt: self._kept[prompt] for prompt in prompts if prompt in self._kept}
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
        if new:
            with torch.no_grad():
                found.update(zip(new, zip(*self._encode(new), strict=True), strict=True))
        if len(self._kept) < MAX_KEPT:
            self._kept.update(found)
        states, pooled = zip(*(found[prompt] for prompt in prompts), strict=True)
        return torch.stack(states), torch.stack(pooled)

    def _encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Encode as the pipelines do."""
        family = self.family
        options: dict[str, Any] = {
            "padding": "max_length",
            "max_length": MAX_SEQUENCE_LENGTH,
            "truncation": True,
            "return_tensors": "pt",
        }
        t5_ids = family.tokenizer_2(prompts, **options).input_ids.to(self.device)
        clip_ids = family.tokenizer(prompts, **options).input_ids.to(self.device)
        states: Tensor = family.text_encoder_2(t5_ids)[0]
        pooled: Tensor = family.text_encoder(clip_ids).pooler_output
        return states, pooled

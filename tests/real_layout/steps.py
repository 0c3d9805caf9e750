"""Writes down what the scheduler makes of each step, for stock pipelines and for the worker alike."""

from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file


def record_steps(folder: Path) -> None:
    """From now on in this process: after each step, write its latents to ``folder``; those of the last are final."""
    folder.mkdir(exist_ok=True)
    plain = FlowMatchEulerDiscreteScheduler.step

    def step(self: Any, *arguments: Any, **named: Any) -> Any:
        result = plain(self, *arguments, **named)
        number = len(list(folder.iterdir())) + 1
        save_file({"latents": result[0].contiguous()}, folder / f"{number:02}.safetensors")
        return result

    FlowMatchEulerDiscreteScheduler.step = step


def recorded(folder: Path) -> list[torch.Tensor]:
    """The latents after each step, in the order of the steps."""
    return [load_file(path)["latents"] for path in sorted(folder.iterdir())]

"""The family as a whole: make it, write it in the diffusers layout, load its pipelines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    FluxFillPipeline,
    FluxKontextPipeline,
    FluxPipeline,
)
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from worker.demo.architecture import (
    TRANSFORMERS,
    make_autoencoder,
    make_clip_encoder,
    make_scheduler,
    make_t5_encoder,
    make_transformer,
)
from worker.demo.tokenization import make_clip_tokenizer, make_t5_tokenizer

# diffusers' classes carry no types, so its objects are `Any` here.
PIPELINES: dict[str, Any] = {
    "demo": FluxPipeline,
    "demo-kontext": FluxKontextPipeline,
    "demo-fill": FluxFillPipeline,
}

SHARED_COMPONENTS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae")
"""Stored once, in the folder of `demo`, and handed to the other two when they load."""


@dataclass
class Family:
    """Shared encoders and autoencoder, and the transformer of each model."""

    tokenizer: CLIPTokenizer
    tokenizer_2: T5Tokenizer
    text_encoder: CLIPTextModel
    text_encoder_2: T5EncoderModel
    vae: Any
    transformers: dict[str, Any]

    def pipeline(self, model: str) -> Any:
        """Assemble the pipeline of one model; nothing is copied."""
        shared = {name: getattr(self, name) for name in SHARED_COMPONENTS}
        return PIPELINES[model](scheduler=make_scheduler(), transformer=self.transformers[model], **shared)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Name every network."""
        return {
            "text_encoder": self.text_encoder,
            "text_encoder_2": self.text_encoder_2,
            "vae": self.vae,
            **self.transformers,
        }


def make_family(seed: int = 0) -> Family:
    """Make the whole family with random weights; the caller's random state is left alone."""
    tokenizer, tokenizer_2 = make_clip_tokenizer(), make_t5_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        family = Family(
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            text_encoder=make_clip_encoder(tokenizer),
            text_encoder_2=make_t5_encoder(tokenizer_2),
            vae=make_autoencoder(),
            transformers={model: make_transformer(model) for model in TRANSFORMERS},
        )
    for module in family.modules().values():
        module.eval()
    return family


def save_family(family: Family, directory: Path) -> None:
    """Write the family as 16-bit safetensors; the modules are halved in place, so save last."""
    for module in family.modules().values():
        module.to(torch.float16)
    family.pipeline("demo").save_pretrained(directory / "demo", safe_serialization=True)
    for model in ("demo-kontext", "demo-fill"):
        pipeline = family.pipeline(model)
        pipeline.save_config(directory / model)
        pipeline.scheduler.save_pretrained(directory / model / "scheduler")
        pipeline.transformer.save_pretrained(directory / model / "transformer", safe_serialization=True)


def build_family(directory: Path, seed: int = 0) -> None:
    """Write a family with random weights: right in every shape, for tests that need no picture."""
    save_family(make_family(seed), directory)


def load_pipelines(directory: Path, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Load the three pipelines the way the product does: the shared parts once."""
    options: dict[str, Any] = {"use_safetensors": True, "dtype": dtype}
    demo = PIPELINES["demo"].from_pretrained(directory / "demo", **options)
    shared = {name: getattr(demo, name) for name in SHARED_COMPONENTS}
    pipelines = {"demo": demo}
    for model in ("demo-kontext", "demo-fill"):
        pipelines[model] = PIPELINES[model].from_pretrained(directory / model, **shared, **options)
    return pipelines

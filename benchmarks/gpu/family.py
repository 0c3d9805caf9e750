"""The pipelines that are measured, in a store of the product.

Random weights are honest about time and memory, for dense products do not look at values: normal, spread 0.02, made on
the card. They say nothing about pictures.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from benchmarks.report import DEMO_WEIGHTS
from shared.catalog import find_model
from shared.domain.model import PipelineSpec
from shared.domain.params import JobKind
from shared.domain.precision import Precision
from shared.domain.report import ChoiceReport
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.device import Device, pick_device
from worker.pipelines.loader import LoadedPipeline, Loader, quantized
from worker.pipelines.speed import choose_compile
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

RANDOM_WEIGHTS: Final = "random, full size (normal, 0.02)"
_SPREAD: Final = 0.02
_PIPELINES: Final = {JobKind.GENERATE: FluxPipeline, JobKind.EDIT: FluxKontextPipeline, JobKind.FILL: FluxFillPipeline}


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """What is measured on this machine: models (one or two that generate, then edit, fill) and their picture size."""

    device: Device
    models: tuple[str, ...]
    side: int
    weights: str

    def store(self, **options: Any) -> PipelineStore:
        """Return a new store of the product for it; ``options`` as of ``PipelineStore``."""
        loader = RandomLoader(self.device) if self.device.is_cuda else Loader(Weights(), self.device)
        return PipelineStore(Weights(), self.device, cpu_offload="off", loader=loader, **options)

    def generator(self, **options: Any) -> FluxLocalGenerator:
        """Return the product's generator over a new store."""
        return FluxLocalGenerator(self.store(**options))


def pick_subject(usable_bytes: int | None = None) -> Subject:
    """Return FLUX.1 where there is a card, else the demo family; ``usable_bytes`` caps what the planner may use."""
    device = pick_device("auto")
    models: tuple[str, ...]
    if device.is_cuda:
        models, side, weights = ("schnell", "dev", "kontext", "fill"), 1024, RANDOM_WEIGHTS
    else:
        device = dataclasses.replace(device, dtype=torch.bfloat16)
        models, side, weights = ("demo", "demo-kontext", "demo-fill"), 64, DEMO_WEIGHTS
    if usable_bytes is not None:
        total = round((usable_bytes + 2**29) / 0.98) + 1  # see Budget.usable_bytes
        device = dataclasses.replace(device, total_bytes=total, description=f"{device.description}, capped")
    return Subject(device, models, side, weights)


def compiling(device: Device) -> ChoiceReport:
    """Return whether blocks can be compiled on this machine, be it worth it or not."""
    return choose_compile("on", device)


class RandomLoader(Loader):
    """Makes pipelines instead of reading them; encoders and VAE are made once for each precision."""

    def __init__(self, device: Device) -> None:
        super().__init__(Weights(), device)
        self._parts: dict[Precision, dict[str, Any]] = {}

    def load(self, spec: PipelineSpec, precision: Precision = Precision.EXACT) -> LoadedPipeline:
        """Return the pipeline of a model with random weights, in host memory."""
        tokens = _demo_tokenizers()
        parts = self._parts[precision] = self._parts.get(precision) or self._make_parts()
        inputs = 384 if spec.kind is JobKind.FILL else 64
        transformer = self._make(
            lambda: FluxTransformer2DModel(in_channels=inputs, out_channels=64, guidance_embeds=spec.uses_guidance)
        )
        schedule = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=spec.uses_guidance)
        pipeline = _PIPELINES[spec.kind](scheduler=schedule, transformer=transformer, **parts, **tokens)
        pipeline.set_progress_bar_config(disable=True)
        loaded = LoadedPipeline(spec, pipeline, dict.fromkeys((*parts, *tokens), f"random:{precision}"))
        return quantized(loaded, precision, self._device)

    def _make_parts(self) -> dict[str, Any]:
        t5 = T5Config(d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24, feed_forward_proj="gated-gelu")
        clip = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
        vae = {
            "block_out_channels": (128, 256, 512, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "layers_per_block": 2,
            "latent_channels": 16,
            "sample_size": 1024,
            "scaling_factor": 0.3611,
            "shift_factor": 0.1159,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        }
        return {
            "text_encoder": self._make(lambda: CLIPTextModel(clip)),
            "text_encoder_2": self._make(lambda: T5EncoderModel(t5)),
            "vae": self._make(lambda: AutoencoderKL(**vae)),
        }

    def _make(self, build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
        """Return a module in host memory with random weights that were made on the card."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(self._device.dtype)
        try:
            with self._device.torch_device:
                module = build()
        finally:
            torch.set_default_dtype(before)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=_SPREAD)
        return module.to("cpu").eval()


def _demo_tokenizers() -> dict[str, Any]:
    demo = Loader(Weights(), pick_device("cpu")).load(find_model("demo")).pipeline
    return {"tokenizer": demo.tokenizer, "tokenizer_2": demo.tokenizer_2}


def mix(subject: Subject, count: int) -> Iterator[str]:
    """Yield ``count`` models: 40 % schnell, 30 % dev, 20 % Kontext, 10 % Fill, always in the same well-mixed order.

    The demo family has one model in the place of the first two.
    """
    edit, fill = subject.models[-2:]
    few, many = subject.models[0], subject.models[-3]
    pattern = (few, edit, many, few, fill, many, few, edit, many, few)
    return itertools.islice(itertools.cycle(pattern), count)

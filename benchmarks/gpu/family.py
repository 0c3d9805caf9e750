"""The pipelines that are measured: FLUX.1 at full size with random weights on a card, the demo family without one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
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

from benchmarks.gpu.random_weights import WeightTiles
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
        return PipelineStore(Weights(), self.device, cpu_offload="off", loader=self.loader(), **options)

    def loader(self) -> Loader:
        """Return what makes the models, in host memory: a card under a cap has room for one of them only."""
        return RandomLoader(self.device) if self.device.is_cuda else Loader(Weights(), self.device)

    def pipeline(self, model: str) -> Any:
        """Return the diffusers pipeline of a model, all of it on the device and nothing else done to it."""
        if self.device.is_cuda:
            return RandomLoader(self.device, self.device.torch_device).load(find_model(model)).pipeline
        return self.loader().load(find_model(model)).pipeline

    def transformer(self, model: str) -> Any:
        """Return a model's transformer alone, on the device."""
        if self.device.is_cuda:
            return RandomLoader(self.device, self.device.torch_device).transformer(find_model(model))
        return self.pipeline(model).transformer

    def generator(self, **options: Any) -> FluxLocalGenerator:
        """Return the product's generator over a new store."""
        return FluxLocalGenerator(self.store(**options))


def pick_subject(usable_bytes: int | None = None, device: Device | None = None) -> Subject:
    """Return FLUX.1 on a card, or the demo family on a CPU; ``usable_bytes`` caps what the planner may use.

    ``device`` unset: the card, where there is one.
    """
    device = device or pick_device("auto")
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
    """Makes pipelines instead of reading them, in host memory unless told otherwise; encoders and VAE once each."""

    def __init__(self, device: Device, made_on: torch.device | None = None) -> None:
        super().__init__(Weights(), device)
        self._tiles = WeightTiles(made_on or torch.device("cpu"), device.dtype)
        self._parts: dict[Precision, dict[str, Any]] = {}

    def load(self, spec: PipelineSpec, precision: Precision = Precision.EXACT) -> LoadedPipeline:
        """Return the pipeline of a model with random weights."""
        tokens = _demo_tokenizers()
        parts = self._parts[precision] = self._parts.get(precision) or self._make_parts()
        schedule = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=spec.uses_guidance)
        transformer = self.transformer(spec)
        pipeline = _PIPELINES[spec.kind](scheduler=schedule, transformer=transformer, **parts, **tokens)
        pipeline.set_progress_bar_config(disable=True)
        loaded = LoadedPipeline(spec, pipeline, dict.fromkeys((*parts, *tokens), f"random:{precision}"))
        return quantized(loaded, precision, self._device)

    def transformer(self, spec: PipelineSpec) -> torch.nn.Module:
        """Return the transformer of a model alone."""
        inputs = 384 if spec.kind is JobKind.FILL else 64
        return self._tiles.build(
            lambda: FluxTransformer2DModel(in_channels=inputs, out_channels=64, guidance_embeds=spec.uses_guidance)
        )

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
            "text_encoder": self._tiles.build(lambda: CLIPTextModel(clip)),
            "text_encoder_2": self._tiles.build(lambda: T5EncoderModel(t5)),
            "vae": self._tiles.build(lambda: AutoencoderKL(**vae)),
        }


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

"""FLUX.1 at its real widths on torch's meta device: weights with sizes and no values, for the account of what moves."""

import copy
import dataclasses
from functools import cache
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from shared.catalog import CATALOG
from shared.domain.precision import Precision
from shared.planner import GIB, Wanted, plan
from worker.pipelines.device import pick_device
from worker.pipelines.loader import LoadedPipeline
from worker.pipelines.planning import GPU_SPECS, machine_budget
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

T5 = T5Config(d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24, feed_forward_proj="gated-gelu")
CLIP = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


@cache
def _shared_parts():
    with torch.device("meta"):
        return {
            "text_encoder": CLIPTextModel(CLIP).to(torch.bfloat16),
            "text_encoder_2": T5EncoderModel(T5).to(torch.bfloat16),
            "vae": AutoencoderKL(**VAE).bfloat16(),
        }


@cache
def _transformer(model):
    with torch.device("meta"):
        return FluxTransformer2DModel(guidance_embeds=model != "schnell").bfloat16()


def family(*models):
    """Return pipelines of schnell and dev, exact, that share what models share."""
    shared = copy.deepcopy(_shared_parts())
    digests = {name: f"{name:_<12}" for name in shared}
    return {
        model: LoadedPipeline(
            CATALOG[model],
            SimpleNamespace(transformer=copy.deepcopy(_transformer(model)), unet=None, **shared),
            digests,
            Precision.EXACT,
        )
        for model in models
    }


def card(gib):
    """A card of this size; its weights stay on the meta device."""
    return dataclasses.replace(
        pick_device("cpu"), dtype=torch.bfloat16, total_bytes=round(gib * GIB), description="a card on paper"
    )


def planned_moves(gib, models, shape):
    """Return what the planner says that jobs of these models, in turn, wait for."""
    budget = machine_budget(card(gib), 50.0, 128 * GIB)
    return plan(GPU_SPECS, budget, Wanted(models=models, precision=Precision.EXACT, shape=shape)).moves


def moved_bytes(gib, jobs, shapes):
    """Replay jobs, each a model and whether its prompt is new, on an empty card; return what each one waited for.

    ``shapes`` is one for all jobs, or one for each.
    """
    store, moved = PipelineStore(Weights(), card(gib), cpu_offload="off"), []
    loaded = family(*{model for model, _ in jobs})
    for index, (model, is_new) in enumerate(jobs):
        before = store.residency.brought_bytes
        placement = store.place(loaded[model], shapes[index] if isinstance(shapes, list) else shapes)
        if is_new:
            with placement.encoding():
                pass
        with placement.denoising():
            pass
        with placement.decoding():
            pass
        moved.append(store.residency.brought_bytes - before)
    return moved

"""The demo transformer in the place of FLUX.1 [dev], with an adapter in XLabs' layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import FluxPipeline
from torch.nn import functional

from shared.adapters import FLUX_IP_ADAPTER
from shared.catalog import CATALOG
from tests.contract.generators.models.lesson import (
    DEMO,
    EMBEDDING_WIDTH,
    Lesson,
    adapter_file,
    fit,
    repository,
    save_adapter,
)

IMAGE_TOKENS: Final = 4
PROMPTS: Final = ("a red circle on a blue background", "a large green square on the left", "an empty white background")
_BATCH: Final = 8


def write_flux(cache: Path, steps: int = 120) -> float:
    """Write `dev` and `flux-ip-adapter`; only the adapter and its image encoder learn. Return the last loss."""
    shutil.copytree(DEMO, repository(cache, CATALOG["dev"].repo_id or ""), dirs_exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline, lesson = FluxPipeline.from_pretrained(DEMO, dtype=torch.float32), Lesson()
        transformer = pipeline.transformer.requires_grad_(False)
        save_adapter(cache, FLUX_IP_ADAPTER, random_tensors(transformer))
        file = adapter_file(cache, FLUX_IP_ADAPTER)
        pipeline.register_modules(image_encoder=lesson.image_encoder)
        pipeline.load_ip_adapter(str(file.parent), weight_name=file.name)
        prompts = [_encode(pipeline, prompt) for prompt in PROMPTS]
        learned = [transformer.encoder_hid_proj, *_ip_processors(transformer)]
        loss = fit(learned, steps, 3e-3, lambda: _loss(pipeline, lesson, prompts))
        save_adapter(cache, FLUX_IP_ADAPTER, _tensors(transformer))
    return loss


def random_tensors(transformer: Any) -> dict[str, torch.Tensor]:
    """Return an untrained adapter by the names of the published file."""
    text, width = transformer.config.joint_attention_dim, transformer.inner_dim
    shapes = {
        "ip_adapter_proj_model.proj.weight": (IMAGE_TOKENS * text, EMBEDDING_WIDTH),
        "ip_adapter_proj_model.proj.bias": (IMAGE_TOKENS * text,),
        "ip_adapter_proj_model.norm.bias": (text,),
    }
    for block in range(transformer.config.num_layers):
        for part in ("k", "v"):
            name = f"double_blocks.{block}.processor.ip_adapter_double_stream_{part}_proj"
            shapes |= {f"{name}.weight": (width, text), f"{name}.bias": (width,)}
    tensors = {name: torch.randn(shape) * 0.05 for name, shape in shapes.items()}
    return tensors | {"ip_adapter_proj_model.norm.weight": torch.ones(text)}


def _tensors(transformer: Any) -> dict[str, torch.Tensor]:
    (projection,) = transformer.encoder_hid_proj.image_projection_layers
    tensors = {
        f"ip_adapter_proj_model.{name.replace('image_embeds', 'proj')}": tensor
        for name, tensor in projection.state_dict().items()
    }
    for block, processor in enumerate(_ip_processors(transformer)):
        for part, (layer,) in (("k", processor.to_k_ip), ("v", processor.to_v_ip)):
            name = f"double_blocks.{block}.processor.ip_adapter_double_stream_{part}_proj"
            tensors |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    return tensors


def _ip_processors(transformer: Any) -> list[Any]:
    return [processor for processor in transformer.attn_processors.values() if hasattr(processor, "to_k_ip")]


@torch.no_grad()
def _encode(pipeline: Any, prompt: str) -> Any:
    return pipeline.encode_prompt(prompt, None, num_images_per_prompt=_BATCH, max_sequence_length=24)


def _loss(pipeline: Any, lesson: Lesson, prompts: list[Any]) -> torch.Tensor:
    """Flow matching: the velocity from the reference's colour to noise, whatever the prompt says."""
    latents, embeds = lesson.batch(_BATCH)
    clean = pipeline._pack_latents(latents, *latents.shape)
    noise, time = lesson.noise(clean), torch.rand(_BATCH, generator=lesson.random)
    mixed = torch.lerp(clean, noise, time.view(-1, 1, 1))
    words, pooled, text_ids = prompts[int(torch.randint(len(prompts), (), generator=lesson.random))]
    velocity = pipeline.transformer(
        hidden_states=mixed,
        timestep=time,
        pooled_projections=pooled,
        encoder_hidden_states=words,
        txt_ids=text_ids,
        img_ids=pipeline._prepare_latent_image_ids(_BATCH, 2, 2, "cpu", torch.float32),
        joint_attention_kwargs={"ip_adapter_image_embeds": [embeds[:, None]]},
        return_dict=False,
    )[0]
    return functional.mse_loss(velocity, noise - clean)

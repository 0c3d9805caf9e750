"""Stable Diffusion 1.5 and XL around the demo's autoencoder and text encoder, with adapters in h94's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from diffusers import (
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch.nn import functional
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from shared.catalog import CATALOG
from shared.domain.model import ModelFamily, PipelineSpec
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
PROMPTS: Final = ("a red circle on a blue background", "a large green square on the left", "")
_BATCH: Final = 24
_TEXT_WIDTH: Final = 128
_NOISE: Final = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    # As Stable Diffusion 2.1: a short training learns the colour at every level of noise.
    "prediction_type": "v_prediction",
}


def write_stable_diffusion(cache: Path, model: str, steps: int = 220) -> float:
    """Write `sd15` or `sdxl` with its adapter; UNet and adapter learn. Return the last loss."""
    spec = CATALOG[model]
    adapter = spec.capabilities.ip_adapter
    assert adapter is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lesson = Lesson()
        pipeline = _make_pipeline(spec, lesson.vae)
        save_adapter(cache, adapter, random_tensors(pipeline.unet))
        file = adapter_file(cache, adapter)
        pipeline.register_modules(image_encoder=lesson.image_encoder)
        pipeline.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name)
        prompts = [_encode(spec, pipeline, prompt) for prompt in PROMPTS]
        loss = fit([pipeline.unet], steps, 3e-3, lambda: _loss(pipeline, lesson, prompts))
        save_adapter(cache, adapter, _tensors(pipeline.unet))
    pipeline.unload_ip_adapter()
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(repository(cache, spec.repo_id or ""), variant=spec.variant)
    return loss


def _make_pipeline(spec: PipelineSpec, vae: Any) -> Any:
    tokenizer = CLIPTokenizer.from_pretrained(DEMO / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(DEMO / "text_encoder", dtype=torch.float32)
    parts = {"vae": vae, "tokenizer": tokenizer, "text_encoder": text_encoder}
    if spec.family is ModelFamily.STABLE_DIFFUSION_XL:
        return StableDiffusionXLPipeline(
            **parts,
            tokenizer_2=tokenizer,
            text_encoder_2=CLIPTextModelWithProjection(text_encoder.config),
            unet=_make_unet(2 * _TEXT_WIDTH, **_xl_settings()),
            scheduler=EulerDiscreteScheduler(timestep_spacing="leading", **_NOISE),
        )
    return StableDiffusionPipeline(
        **parts,
        unet=_make_unet(_TEXT_WIDTH),
        scheduler=PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **_NOISE),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(),
        requires_safety_checker=False,
    )


def _make_unet(cross_attention_width: int, **more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=16,
        out_channels=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=cross_attention_width,
        attention_head_dim=8,
        norm_num_groups=8,
        **more,
    )


def _xl_settings() -> dict[str, Any]:
    """Return what makes a UNet SDXL's: it is told the sizes, in six numbers, and the pooled text."""
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + _TEXT_WIDTH,
        "use_linear_projection": True,
    }


def random_tensors(unet: Any) -> dict[str, torch.Tensor]:
    """Return an untrained adapter by the names of the published file."""
    width = unet.config.cross_attention_dim
    tensors = {
        "image_proj.proj.weight": torch.randn(IMAGE_TOKENS * width, EMBEDDING_WIDTH) * 0.1,
        "image_proj.proj.bias": torch.zeros(IMAGE_TOKENS * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    for index, name in _cross_attention(unet):
        hidden = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        for part in ("k", "v"):
            tensors[f"ip_adapter.{index}.to_{part}_ip.weight"] = torch.randn(hidden, width) * 0.1
    return tensors


def _tensors(unet: Any) -> dict[str, torch.Tensor]:
    (projection,) = unet.encoder_hid_proj.image_projection_layers
    tensors = {
        f"image_proj.{name.replace('image_embeds', 'proj')}": tensor for name, tensor in projection.state_dict().items()
    }
    for index, name in _cross_attention(unet):
        processor = unet.attn_processors[name]
        for part, (layer,) in (("k", processor.to_k_ip), ("v", processor.to_v_ip)):
            tensors[f"ip_adapter.{index}.to_{part}_ip.weight"] = layer.weight
    return tensors


def _cross_attention(unet: Any) -> list[tuple[int, str]]:
    """Return the cross-attentions with their numbers in the file: every second attention is one."""
    return [(index, name) for index, name in enumerate(unet.attn_processors) if name.endswith("attn2.processor")]


def _loss(pipeline: Any, lesson: Lesson, prompts: list[Any]) -> torch.Tensor:
    """The velocity between noise and the reference's colour; one reference in eight is left out, for guidance."""
    clean, embeds = lesson.batch(_BATCH)
    noise = lesson.noise(clean)
    time = torch.randint(1000, (_BATCH,), generator=lesson.random)
    share = pipeline.scheduler.alphas_cumprod[time].view(-1, 1, 1, 1)
    mixed, velocity = (
        share.sqrt() * clean + (1 - share).sqrt() * noise,
        share.sqrt() * noise - (1 - share).sqrt() * clean,
    )
    embeds = embeds * (torch.rand(_BATCH, 1, generator=lesson.random) > 1 / 8)
    text, added = prompts[int(torch.randint(len(prompts), (), generator=lesson.random))]
    predicted = pipeline.unet(
        mixed, time, encoder_hidden_states=text, added_cond_kwargs={"image_embeds": [embeds[:, None]], **added}
    ).sample
    return functional.mse_loss(predicted, velocity)


@torch.no_grad()
def _encode(spec: PipelineSpec, pipeline: Any, prompt: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    if spec.family is not ModelFamily.STABLE_DIFFUSION_XL:
        return pipeline.encode_prompt(prompt, "cpu", _BATCH, False)[0], {}
    text, _, pooled, _ = pipeline.encode_prompt(prompt, num_images_per_prompt=_BATCH, do_classifier_free_guidance=False)
    if not prompt and pipeline.config.force_zeros_for_empty_prompt:
        text, pooled = torch.zeros_like(text), torch.zeros_like(pooled)
    sizes = torch.tensor([256.0, 256, 0, 0, 256, 256]).expand(_BATCH, -1)
    return text, {"text_embeds": pooled, "time_ids": sizes}

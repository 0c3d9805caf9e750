"""The catalog's sizes are those of the classes that diffusers and transformers build."""

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from shared.catalog import CATALOG
from worker.pipelines.device import pick_device
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights


def bytes_of(module, part=""):
    return 2 * sum(weight.numel() for name, weight in module.named_parameters() if part in name)


def modulation_bytes(transformer):
    """Of all that acts on one token: the embedding of step, guidance and prompt, and the layers it is for."""
    layers = [part for name, part in transformer.named_modules() if name.endswith("linear") and "norm" in name]
    return sum(map(bytes_of, (transformer.time_text_embed, *layers)))


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("schnell", {"guidance_embeds": False}),
        ("dev", {"guidance_embeds": True}),
        ("kontext", {"guidance_embeds": True}),
        ("fill", {"guidance_embeds": True, "in_channels": 384, "out_channels": 64}),
    ],
)
def test_a_real_transformer_has_the_bytes_that_the_catalog_states(model, config):
    # Given the published configuration, built without memory
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(**config)
    # Then weights, and those of the modulation layers among them, are as stated
    assert bytes_of(transformer) == CATALOG[model].component_bytes["transformer"]
    assert modulation_bytes(transformer) == CATALOG[model].modulation_bytes


def test_the_shared_parts_have_the_bytes_that_the_catalog_states():
    # Given the published configurations of T5 v1.1 XXL, CLIP L and the autoencoder
    with torch.device("meta"):
        t5 = T5EncoderModel(
            T5Config(d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24, feed_forward_proj="gated-gelu")
        )
        clip = CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    stated = CATALOG["dev"].component_bytes
    assert [bytes_of(module) for module in (t5, clip, vae)] == [
        stated["text_encoder_2"], stated["text_encoder"], stated["vae"],
    ]  # fmt: skip


@pytest.mark.parametrize("model", ["demo", "demo-kontext", "demo-fill"])
def test_the_demo_family_has_the_bytes_that_the_catalog_states(model):
    # Given a loaded pipeline
    pipeline = PipelineStore(Weights(), pick_device("cpu")).get(CATALOG[model])
    # Then each of its networks is as large as stated
    stated = CATALOG[model].component_bytes
    assert {name: bytes_of(getattr(pipeline, name)) for name in stated} == stated
    assert modulation_bytes(pipeline.transformer) == CATALOG[model].modulation_bytes

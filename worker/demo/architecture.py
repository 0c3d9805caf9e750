"""The family's networks: the real FLUX classes in the smallest sizes that learn the tiny world."""

from dataclasses import dataclass

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerBase,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from worker.demo.tokenization import MAX_SEQUENCE_LENGTH

LATENT_CHANNELS = 16
TOKEN_CHANNELS = 4 * LATENT_CHANNELS
"""FLUX packs 2x2 latents into one token."""

MASK_CHANNELS = 4 * 8 * 8
"""Fill shows every token its 16x16 mask pixels."""

TEXT_WIDTH = 128


@dataclass(frozen=True)
class TransformerShape:
    """What differs between the three transformers."""

    in_channels: int
    guidance_embeds: bool


TRANSFORMERS: dict[str, TransformerShape] = {
    "demo": TransformerShape(TOKEN_CHANNELS, guidance_embeds=False),
    "demo-kontext": TransformerShape(TOKEN_CHANNELS, guidance_embeds=True),
    "demo-fill": TransformerShape(2 * TOKEN_CHANNELS + MASK_CHANNELS, guidance_embeds=True),
}


def make_transformer(model: str) -> FluxTransformer2DModel:
    """Build one of the three transformers with random weights."""
    shape = TRANSFORMERS[model]
    return FluxTransformer2DModel(
        in_channels=shape.in_channels,
        out_channels=TOKEN_CHANNELS,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=shape.guidance_embeds,
        axes_dims_rope=(4, 14, 14),
    )


def make_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Build the scheduler of all three: evenly spaced noise levels, as schnell's."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0, use_dynamic_shifting=False)


def make_t5_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """Build the encoder whose token states the transformer attends to."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_WIDTH,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        relative_attention_max_distance=MAX_SEQUENCE_LENGTH,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        use_cache=False,
        pad_token_id=_token_id(tokenizer, "<pad>"),
        eos_token_id=_token_id(tokenizer, "</s>"),
    )
    return T5EncoderModel(config)


def make_clip_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Build the encoder whose pooled state modulates every block."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=256,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_SEQUENCE_LENGTH,
        # CLIP pools the first end token, which it finds by this id.
        bos_token_id=_token_id(tokenizer, "<|startoftext|>"),
        eos_token_id=_token_id(tokenizer, "<|endoftext|>"),
        pad_token_id=_token_id(tokenizer, "<|endoftext|>"),
    )
    return CLIPTextModel(config)


def make_autoencoder() -> AutoencoderKL:
    """Build the autoencoder with random weights: 8x8 pixels become one place of 16 channels."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 48, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        # One group: a flat picture keeps the differences between its channels, which are its colour.
        norm_num_groups=1,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=256,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """Look up one token that must exist."""
    token_id = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(token_id, int):
        raise TypeError(f"{token} is not one token")
    return token_id

"""Every image-prompt adapter (IP-Adapter) this server knows, as data.

Sizes in bytes are parameter counts of the published layouts times two (16 bit). XLabs' first adapter: a projection
of a 768-wide CLIP embedding to four tokens of 4096, and keys and values of 19 double blocks; h94's: four tokens, and
keys and values of each cross-attention (16 in SD 1.5, 70 in SDXL). diffusers 0.42 reads both layouts, and of the FLUX
adapters only XLabs' (v1 and v2): InstantX's has another image encoder, projection and other layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from shared.domain.adapter import IPAdapterSpec

_VIT_H_BYTES: Final = 1_264_153_600
_VIT_L_BYTES: Final = 607_932_416

FLUX_IP_ADAPTER: Final = IPAdapterSpec(
    adapter="flux-ip-adapter",
    title="IP-Adapter for FLUX.1 [dev] (XLabs)",
    repo_id="XLabs-AI/flux-ip-adapter",
    weight_name="ip_adapter.safetensors",
    image_encoder_repo_id="openai/clip-vit-large-patch14",
    licence="FLUX.1 [dev] Non-Commercial License",
    scale=1.0,
    component_bytes=MappingProxyType({"ip_adapter": 981_749_760, "image_encoder": _VIT_L_BYTES}),
)
SD15_IP_ADAPTER: Final = IPAdapterSpec(
    adapter="ip-adapter-sd15",
    title="IP-Adapter for Stable Diffusion 1.5",
    repo_id="h94/IP-Adapter",
    weight_name="models/ip-adapter_sd15.safetensors",
    image_encoder_repo_id="h94/IP-Adapter",
    image_encoder_folder="models/image_encoder",
    licence="Apache-2.0",
    scale=0.6,
    component_bytes=MappingProxyType({"ip_adapter": 44_639_232, "image_encoder": _VIT_H_BYTES}),
)
SDXL_IP_ADAPTER: Final = IPAdapterSpec(
    adapter="ip-adapter-sdxl",
    title="IP-Adapter for Stable Diffusion XL",
    repo_id="h94/IP-Adapter",
    # The one that looks through ViT-H, as SD 1.5's does, so that one encoder serves both.
    weight_name="sdxl_models/ip-adapter_sdxl_vit-h.safetensors",
    image_encoder_repo_id="h94/IP-Adapter",
    image_encoder_folder="models/image_encoder",
    licence="Apache-2.0",
    scale=0.6,
    component_bytes=MappingProxyType({"ip_adapter": 698_376_192, "image_encoder": _VIT_H_BYTES}),
)

ADAPTERS: Final[Mapping[str, IPAdapterSpec]] = MappingProxyType(
    {spec.adapter: spec for spec in (FLUX_IP_ADAPTER, SD15_IP_ADAPTER, SDXL_IP_ADAPTER)}
)

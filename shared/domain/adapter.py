"""An image-prompt adapter (IP-Adapter): small weights beside a model that make it follow a reference picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class IPAdapterSpec:
    """One adapter: where its weights and those of its image encoder are, and how much it counts by default.

    The layouts are those of the published repositories: h94/IP-Adapter for Stable Diffusion, XLabs-AI for FLUX.
    """

    adapter: str
    """Public id, as in ``flux-image pull``."""
    title: str
    repo_id: str
    weight_name: str
    """Path of the adapter's one file in the repository."""
    image_encoder_repo_id: str
    image_encoder_folder: str = ""
    """Folder of the CLIP vision encoder in its repository; empty: at the top."""
    licence: str
    scale: float
    """Default of ``ip_adapter_scale``."""
    component_bytes: Mapping[str, int] = field(default_factory=dict)

    gated: bool = False

    @property
    def name(self) -> str:
        """What `flux-image pull` calls it."""
        return self.adapter

    @property
    def licence_url(self) -> str:
        """Where its terms are."""
        return f"https://huggingface.co/{self.repo_id}"

    @property
    def downloads(self) -> dict[str, tuple[str, ...]]:
        """Per repository, the patterns of the files that are needed."""
        prefix = f"{self.image_encoder_folder}/" if self.image_encoder_folder else ""
        encoder = tuple(prefix + name for name in ("config.json", "model.safetensors"))
        if self.image_encoder_repo_id == self.repo_id:
            return {self.repo_id: (self.weight_name, *encoder)}
        return {self.repo_id: (self.weight_name,), self.image_encoder_repo_id: encoder}

"""What the small models of the tests learn in seconds: to paint the colour of their reference picture.

They are written in the layouts of the published repositories into a Hugging Face cache of their own, as
`flux-image pull` would leave it, so that a test can see through the real loaders whether the reference reached the
pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from shared.domain.adapter import IPAdapterSpec
from worker.pipelines.weights import DEMO_CHECKPOINT

DEMO: Final = DEMO_CHECKPOINT / "demo"
EMBEDDING_WIDTH: Final = 32
CLIP_SIDE: Final = 16
_REVISION: Final = "0" * 40
_CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_CLIP_DEVIATION: Final = (0.26862954, 0.26130258, 0.27577711)


def repository(cache: Path, repo_id: str) -> Path:
    """Return the folder of a repository's files in a Hugging Face cache; it is made."""
    root = cache / f"models--{repo_id.replace('/', '--')}"
    folder = root / "snapshots" / _REVISION
    folder.mkdir(parents=True, exist_ok=True)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(_REVISION)
    return folder


def make_image_encoder() -> CLIPVisionModelWithProjection:
    """Return the one image encoder of all: random, with weights large enough that colours stay apart."""
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        projection_dim=EMBEDDING_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=CLIP_SIDE,
        patch_size=8,
        initializer_factor=4.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return CLIPVisionModelWithProjection(config).eval().requires_grad_(False)


def adapter_file(cache: Path, spec: IPAdapterSpec) -> Path:
    """Return the place of an adapter's file; its folder is made."""
    file = repository(cache, spec.repo_id) / spec.weight_name
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def save_adapter(cache: Path, spec: IPAdapterSpec, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write an adapter's file and its image encoder where the catalog says they are."""
    halved = {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}
    save_file(halved, adapter_file(cache, spec))
    make_image_encoder().half().save_pretrained(
        repository(cache, spec.image_encoder_repo_id) / spec.image_encoder_folder
    )


class Lesson:
    """Eight pictures of one pure colour each: their latents, and how the image encoder sees them.

    The colours the tests ask for are among them: between them, what was learned hung on the autoencoder of the day.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.vae = AutoencoderKL.from_pretrained(DEMO / "vae", dtype=torch.float32).eval()
        self.image_encoder = make_image_encoder()
        colours = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).view(-1, 3, 1, 1)
        with torch.no_grad():
            self._latents = self.vae.encode(colours.expand(-1, -1, 32, 32) * 2 - 1).latent_dist.mode()
            mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (_CLIP_MEAN, _CLIP_DEVIATION))
            seen = ((colours - mean) / deviation).expand(-1, -1, CLIP_SIDE, CLIP_SIDE)
            self._embeds = self.image_encoder(seen).image_embeds

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latents of shape (size, 16, 4, 4) and image embeddings of (size, width)."""
        chosen = torch.randint(len(self._latents), (size,), generator=self.random)
        return self._latents[chosen], self._embeds[chosen]

    def noise(self, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self.random)


def fit(modules: Iterable[torch.nn.Module], steps: int, rate: float, loss: Callable[[], torch.Tensor]) -> float:
    """Lower a loss by what the modules hold; return its last value."""
    parameters = [parameter for module in modules for parameter in module.requires_grad_(True).parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    value = torch.zeros(())
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss()
        value.backward()
        optimiser.step()
        schedule.step()
    return value.item()

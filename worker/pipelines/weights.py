"""Where a model's weights are on this machine. Never downloads: that is `flux-image pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from shared.domain.adapter import IPAdapterSpec
from shared.domain.errors import ModelUnavailable
from shared.domain.model import PipelineSpec
from shared.domain.report import ModelReport
from shared.weights import FoundWeights, find_adapter_weights, find_model_weights
from worker import demo

DEMO_CHECKPOINT: Final = Path(demo.__file__).parent / "checkpoint"
SHIPPED_LATENT_RGB: Final = DEMO_CHECKPOINT / "latent_rgb"
"""The demo VAE's map from latents to colours, see ``latent_rgb``."""


class Weights:
    """Finds weights: the demo family in this package, the others in the Hugging Face cache."""

    def __init__(self, demo_checkpoint: Path = DEMO_CHECKPOINT, cache_dir: Path | None = None) -> None:
        """``cache_dir`` is Hugging Face's cache; unset: where its environment variables say."""
        self._demo_checkpoint = demo_checkpoint
        self._cache_dir = cache_dir

    def folder(self, spec: PipelineSpec) -> Path:
        """Return the diffusers folder of a model.

        Raises:
          ModelUnavailable: the weights are missing or incomplete; the message names the remedy.
        """
        if spec.repo_id is None:
            return self._demo_checkpoint / spec.model
        (folder,) = _require_whole(spec, find_model_weights(spec, self._cache_dir))
        return folder

    def adapter(self, spec: IPAdapterSpec) -> tuple[Path, Path]:
        """Return an adapter's file and the folder of its image encoder.

        Raises:
          ModelUnavailable: one of them is missing; the message names the remedy.
        """
        folder, encoder = _require_whole(spec, find_adapter_weights(spec, self._cache_dir))
        return folder / spec.weight_name, encoder

    def report(self, spec: PipelineSpec) -> ModelReport:
        """Return whether a model can be loaded here, and why."""
        if spec.is_demo:
            return ModelReport(model=spec.model, available=True, reason="comes with the project")
        try:
            folder = self.folder(spec)
        except ModelUnavailable as error:
            return ModelReport(model=spec.model, available=False, reason=error.message)
        follows = spec.capabilities.ip_adapter is not None and self._has(spec.capabilities.ip_adapter)
        return ModelReport(model=spec.model, available=True, reason=f"found in {folder}", follows_reference=follows)

    def _has(self, adapter: IPAdapterSpec) -> bool:
        try:
            self.adapter(adapter)
        except ModelUnavailable:
            return False
        return True


def _require_whole(spec: PipelineSpec | IPAdapterSpec, found: FoundWeights) -> tuple[Path, ...]:
    if problem := found.problem:
        raise ModelUnavailable(
            f"{spec.title} cannot run: {problem}. Run `flux-image pull {spec.name}` on the worker's machine.",
            model=spec.name,
        )
    return found.folders

"""From latents to a small RGB picture by one linear map, kept per VAE.

A VAE's latents hold, at each place, mostly the mean colour of the pixels there; the map reads it without decoding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import torch

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LatentRgb:
    """RGB in -1..1 as ``latents @ weight + bias``: ``weight`` of shape (channels, 3), ``bias`` of shape (3,)."""

    weight: torch.Tensor
    bias: torch.Tensor
    explained: float
    """Share of the colours' variance that the map explains on the pictures it was fitted on."""

    def to(self, device: torch.device) -> LatentRgb:
        """Return the same map on a device."""
        return LatentRgb(self.weight.to(device), self.bias.to(device), self.explained)

    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """Return 8-bit pixels of shape (rows, columns, 3) for latents of shape (1, channels, rows, columns)."""
        colours = latents[0].float().permute(1, 2, 0) @ self.weight + self.bias
        return (colours / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)

    def write(self, path: Path) -> None:
        """Write the map as JSON, whole or not at all.

        Raises:
          OSError: it cannot be written.
        """
        values = {"explained": self.explained, "bias": self.bias.tolist(), "weight": self.weight.tolist()}
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(values) + "\n")
        unfinished.replace(path)

    @classmethod
    def read(cls, path: Path) -> LatentRgb:
        """Return the map that was written to ``path``.

        Raises:
          OSError, ValueError, KeyError, TypeError: there is none, or it is damaged.
        """
        values = json.loads(path.read_text())
        weight, bias = torch.tensor(values["weight"]), torch.tensor(values["bias"])
        if weight.ndim != 2 or weight.shape[1] != 3 or bias.shape != (3,):
            raise ValueError(f"a map of shape {tuple(weight.shape)} and {tuple(bias.shape)}")
        return cls(weight, bias, float(values["explained"]))


class LatentRgbMaps:
    """One map per VAE, by the digest of its weights: read where there is one, else fitted, and kept in ``folder``.

    ``shipped`` is only read; without a ``folder`` a fitted map lasts as long as the process.
    """

    def __init__(self, shipped: Path, folder: Path | None = None) -> None:
        self._shipped = shipped
        self._folder = folder
        self._known: dict[str, LatentRgb] = {}

    def get(self, digest: str, fit: Callable[[], LatentRgb]) -> LatentRgb:
        """Return the map of a VAE; ``fit`` is called only where none is known."""
        if digest not in self._known:
            self._known[digest] = self._read(digest) or self._keep(digest, fit())
        return self._known[digest]

    def _read(self, digest: str) -> LatentRgb | None:
        for folder in (self._shipped, self._folder):
            if folder is None or not (path := folder / file_name(digest)).is_file():
                continue
            try:
                return LatentRgb.read(path)
            except (OSError, ValueError, KeyError, TypeError) as error:  # it can be fitted anew
                log.warning("damaged preview map", action="latent_rgb", path=str(path), error=str(error))
        return None

    def _keep(self, digest: str, fitted: LatentRgb) -> LatentRgb:
        log.info("preview map fitted", action="latent_rgb", vae=digest[:12], explained=fitted.explained)
        if self._folder is not None:
            try:
                fitted.write(self._folder / file_name(digest))
            except OSError as error:  # the next process fits it again
                log.warning("preview map not kept", action="latent_rgb", error=str(error))
        return fitted


def file_name(digest: str) -> str:
    """Return the name of a VAE's map in its folder."""
    return f"{digest[:16]}.json"

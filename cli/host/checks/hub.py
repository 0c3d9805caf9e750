"""The Hugging Face token, and which weights are on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub.constants import HF_HUB_CACHE

from cli.host.checks.disk import free_gigabytes
from cli.host.checks.finding import Finding, note, ok, problem
from cli.host.checks.sharing import shared_parts
from shared.adapters import ADAPTERS
from shared.catalog import CATALOG
from shared.domain.adapter import IPAdapterSpec
from shared.domain.model import ModelFamily, PipelineSpec
from shared.settings import HubSettings
from shared.weights import find_weights


def check(settings: HubSettings) -> Iterator[Finding]:
    """Yield what was found about the weights. Asks no server."""
    if settings.hf_token is None:
        yield note("no HF_TOKEN: gated models (dev, kontext, fill) cannot be pulled")
    else:
        yield ok("HF_TOKEN is set")
    cache = Path(HF_HUB_CACHE)
    yield ok(f"weights are kept in {cache} ({free_gigabytes(cache):.0f} GB free)")
    pulled: list[PipelineSpec | IPAdapterSpec] = [*CATALOG.values(), *ADAPTERS.values()]
    yield from (judge_weights(spec, cache) for spec in pulled if spec.downloads)
    yield from map(ok, shared_parts(_flux_folders(cache)))


def judge_weights(spec: PipelineSpec | IPAdapterSpec, cache: Path) -> Finding:
    """Return whether a model's or an adapter's weights can be loaded: what the worker would say, too."""
    found = find_weights(spec, cache)
    if found.problem is None:
        return ok(f"{spec.name}: {found.folders[0]}")
    if found.missing:
        return problem(f"{spec.name}: {found.problem}; `flux-image pull {spec.name}` fetches the rest")
    size = sum(spec.component_bytes.values()) / 1e9
    return note(f"{spec.name}: not here; `flux-image pull {spec.name}` downloads {size:.0f} GB")


def _flux_folders(cache: Path) -> dict[str, Path]:
    """Return the folders of the FLUX models that are whole, by model."""
    flux = (spec for spec in CATALOG.values() if spec.family is ModelFamily.FLUX and spec.downloads)
    found = {spec.model: find_weights(spec, cache) for spec in flux}
    return {model: weights.folders[0] for model, weights in found.items() if weights.problem is None}

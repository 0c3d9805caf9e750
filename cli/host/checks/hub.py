"""The Hugging Face token, and which weights are on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import LocalEntryNotFoundError

from cli.host.checks.disk import free_gigabytes
from cli.host.checks.finding import Finding, note, ok
from cli.host.checks.sharing import shared_parts
from shared.catalog import CATALOG
from shared.domain.model import ModelFamily
from shared.settings import HubSettings


def check(settings: HubSettings) -> Iterator[Finding]:
    """Yield what was found about the weights. Asks no server."""
    if settings.hf_token is None:
        yield note("no HF_TOKEN: gated models (dev, kontext, fill) cannot be pulled")
    else:
        yield ok("HF_TOKEN is set")
    cache = Path(HF_HUB_CACHE)
    yield ok(f"weights are kept in {cache} ({free_gigabytes(cache):.0f} GB free)")
    flux: dict[str, Path] = {}
    for spec in CATALOG.values():
        if spec.repo_id is None:
            continue
        try:
            folder = snapshot_download(spec.repo_id, local_files_only=True)
            yield ok(f"{spec.model}: {folder}")
            if spec.family is ModelFamily.FLUX:
                flux[spec.model] = Path(folder)
        except LocalEntryNotFoundError:
            size = sum(spec.component_bytes.values()) / 1e9
            yield note(f"{spec.model}: not here; `flux-image pull {spec.model}` downloads {size:.0f} GB")
    yield from map(ok, shared_parts(flux))

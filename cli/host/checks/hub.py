"""The Hugging Face token, and which weights are on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import LocalEntryNotFoundError

from cli.host.checks.disk import free_gigabytes
from cli.host.checks.finding import Finding, note, ok
from shared.catalog import CATALOG
from shared.settings import HubSettings


def check(settings: HubSettings) -> Iterator[Finding]:
    """Yield what was found about the weights. Asks no server."""
    if settings.hf_token is None:
        yield note("no HF_TOKEN: gated models (dev, kontext, fill) cannot be pulled")
    else:
        yield ok("HF_TOKEN is set")
    cache = Path(HF_HUB_CACHE)
    yield ok(f"weights are kept in {cache} ({free_gigabytes(cache):.0f} GB free)")
    for spec in CATALOG.values():
        if spec.repo_id is None:
            continue
        try:
            folder = snapshot_download(spec.repo_id, local_files_only=True, allow_patterns=list(spec.files))
            yield ok(f"{spec.model}: {folder}")
        except LocalEntryNotFoundError:
            size = sum(spec.component_bytes.values()) / 1e9
            yield note(f"{spec.model}: not here; `flux-image pull {spec.model}` downloads {size:.0f} GB")

"""`flux-image pull MODEL`: the only place that downloads weights, with every refusal explained in words."""

from __future__ import annotations

import errno
import sys
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from shared.catalog import find_download
from shared.domain.adapter import IPAdapterSpec
from shared.domain.errors import UnknownModel
from shared.domain.model import PipelineSpec
from shared.settings import HubSettings
from shared.weights import find_weights

EXIT_REFUSED: Final = 1
EXIT_USAGE: Final = 2


def run_pull(model: str) -> int:
    """Download a model or an adapter; return the exit code. Interrupted downloads go on where they stopped."""
    try:
        spec = find_download(model)
    except UnknownModel as error:
        print(error.message, file=sys.stderr)
        return EXIT_USAGE
    if not spec.downloads:
        print(f"{spec.title} comes with the project; there is nothing to download.")
        return 0
    settings = HubSettings()
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    try:
        folders = [
            snapshot_download(repo_id, allow_patterns=list(patterns), token=token)
            for repo_id, patterns in spec.downloads.items()
        ]
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        print(explain(spec, error, has_token=token is not None), file=sys.stderr)
        return EXIT_REFUSED
    if lack := find_weights(spec).problem:
        print(f"{spec.title}: {lack}, although the download ended well. Run the same command again.", file=sys.stderr)
        return EXIT_REFUSED
    print(f"{spec.title} is in {' and '.join(folders)}. {_next_step(spec)}")
    return 0


def _next_step(spec: PipelineSpec | IPAdapterSpec) -> str:
    if isinstance(spec, IPAdapterSpec):
        return "Jobs that send a `reference` picture can use it now."
    adapter = spec.capabilities.ip_adapter
    more = f" For reference pictures, also run `flux-image pull {adapter.name}`." if adapter else ""
    return f"Restart the worker to make it the default, or name it: model={spec.model}.{more}"


def explain(spec: PipelineSpec | IPAdapterSpec, error: Exception, *, has_token: bool) -> str:
    """Return what went wrong and what to do, for the error of a download or any error that caused it."""
    causes = _chain(error)
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return _explain_gate(spec, has_token)
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return _explain_gate(spec, has_token) if spec.gated else f"{spec.repo_id} does not exist or is private."
    if any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in causes):
        return (
            f"The disk is full. {spec.title} needs about {sum(spec.component_bytes.values()) / 1e9:.0f} GB in "
            "HF_HOME (default ~/.cache/huggingface). Make room or point HF_HOME to a larger disk; "
            "the download goes on where it stopped."
        )
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes):
        return "HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it and try again."
    if isinstance(error, LocalEntryNotFoundError | ConnectionError) or not isinstance(error, HfHubHTTPError):
        return f"huggingface.co cannot be reached: {_first_line(causes[-1])}. Check the network and try again."
    return f"The download of {spec.repo_id} failed: {_first_line(error)}"


def _explain_gate(spec: PipelineSpec | IPAdapterSpec, has_token: bool) -> str:
    steps = [
        f"open {spec.licence_url} and accept its terms ({spec.licence})",
        "make a token with read access at https://huggingface.co/settings/tokens",
        "put HF_TOKEN=hf_... into .env or the environment",
        f"run `flux-image pull {spec.name}` again",
    ]
    problem = (
        "the token that is set may not read it (terms not accepted, or the token is wrong)"
        if has_token
        else "no token is set (HF_TOKEN)"
    )
    numbered = "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, 1))
    return f"{spec.title} is gated, and {problem}.\n{numbered}"


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

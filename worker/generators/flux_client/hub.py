"""From a Space's id to the address of its app, unless its state says that calling it makes no sense now."""

from __future__ import annotations

from typing import Final

import httpx
from huggingface_hub import HfApi

from shared.domain.addresses import is_own_url
from shared.domain.errors import RemoteRefused, RemoteUnavailable
from worker.generators.flux_client.failures import STARTING_SECONDS

_STARTING: Final = frozenset({"BUILDING", "APP_STARTING"})
_RUNNING: Final = frozenset({"RUNNING", "RUNNING_BUILDING", "RUNNING_APP_STARTING"})
_ASLEEP: Final = frozenset({"SLEEPING", "STOPPED"})
_PAUSED_SECONDS: Final = 900


def find_app(space: str, token: str | None, endpoint: str | None, timeout: float) -> str:
    """Return the URL of a Space's app.

    The Gradio client would wait for a Space that builds; a job can wait in the queue instead, where it is seen.

    Raises:
      RemoteUnavailable: the Space builds, starts, sleeps (it is woken) or is paused; says when to come back.
      RemoteRefused: it is broken; only its owner can help.
      HfHubHTTPError: the Hub does not know it, or not to this token.
    """
    # Not None, for which the library would send whatever token it finds on this machine.
    info = HfApi(endpoint=endpoint).space_info(space, token=token or False, timeout=timeout)
    stage = str(info.runtime.stage) if info.runtime else "NO_APP_FILE"
    if stage in _STARTING:
        raise RemoteUnavailable(f"{space} is starting ({stage}).", retry_after_seconds=STARTING_SECONDS)
    if stage == "PAUSED":
        raise RemoteUnavailable(
            f"{space} is paused; only its owner can start it again.", retry_after_seconds=_PAUSED_SECONDS
        )
    if not info.host or stage not in _RUNNING | _ASLEEP:
        raise RemoteRefused(f"{space} does not run ({stage}); only its owner can mend it.")
    if stage in _ASLEEP:
        httpx.get(info.host, timeout=timeout, trust_env=not is_own_url(info.host))  # a visit wakes it up
        raise RemoteUnavailable(f"{space} was asleep and wakes up now.", retry_after_seconds=STARTING_SECONDS)
    return info.host

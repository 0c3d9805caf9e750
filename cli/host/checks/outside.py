"""What jobs may use outside of this machine. The language model is asked whether it is there; the Space is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import httpx2

from cli.host.checks.finding import Finding, note, ok, problem
from shared.domain.addresses import is_own_url
from shared.secrets import public_url
from shared.settings import CoreSettings, EnhancerSettings, OutsideSettings

_TIMEOUT_SECONDS: Final = 3.0


def check(settings: CoreSettings) -> Iterator[Finding]:
    """Yield what is configured, and whether the language model answers."""
    outside = OutsideSettings(data_dir=settings.data_dir)
    if outside.remote_space is None or outside.remote_spec is None:
        yield ok("no Space: every picture is made on this machine")
    else:
        yield ok(
            f"Space {outside.remote_space} for {outside.remote_spec.kind.value} jobs, as {outside.remote_spec.model}"
        )
        if outside.remote_auto:
            yield note("generator auto may send prompts there (FLUX_REMOTE_AUTO=false keeps them here unless asked)")
    if outside.enhancer_url is None:
        yield ok("no language model: prompts are painted as they are")
    else:
        yield _ask(outside, outside.enhancer_url)


def _ask(settings: EnhancerSettings, url: str) -> Finding:
    key = settings.enhancer_key.get_secret_value() if settings.enhancer_key else None
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    shown = public_url(url)
    try:
        answer = httpx2.get(f"{url}/models", headers=headers, timeout=_TIMEOUT_SECONDS, trust_env=not is_own_url(url))
        answer.raise_for_status()
        names = [item["id"] for item in answer.json()["data"]]
    except (httpx2.HTTPError, ImportError, ValueError, KeyError, TypeError) as error:
        reason = str(error).replace(url, shown)
        return problem(f"the language model at {shown} does not answer: {reason}; enhanced jobs go on without it")
    if settings.enhancer_model not in names:
        return problem(
            f"{shown} has no model {settings.enhancer_model}; FLUX_ENHANCER_MODEL is one of {', '.join(names)}"
        )
    return ok(f"{settings.enhancer_model} at {shown}")

"""Which of a Space's endpoints makes the pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NoReturn

from shared.domain.errors import CapabilityError
from worker.generators.flux_client.signature import Endpoint

_PREFERRED: Final = "/infer"
"""What nearly all public Spaces for FLUX call it."""


def choose_endpoint(endpoints: Sequence[Endpoint], wanted: str | None, given: Collection[str]) -> Endpoint:
    """Return the endpoint ``wanted``; by default ``/infer`` if it fits, or the only one that does.

    Raises:
      CapabilityError: there is no such endpoint, it does not fit, or several do; names the ones there are.
    """
    there = ", ".join(endpoint.api_name for endpoint in endpoints) or "none"
    if wanted is not None:
        name = f"/{wanted.lstrip('/')}"
        chosen = next((endpoint for endpoint in endpoints if endpoint.api_name == name), None)
        if chosen is None:
            _refuse(f"The Space has no endpoint {name}. Set FLUX_REMOTE_API_NAME to one of: {there}.")
        if missing := chosen.lacks(given):
            _refuse(f"The Space's {name} needs {', '.join(missing)}, which this job does not have.")
        return chosen
    fitting = [endpoint for endpoint in endpoints if endpoint.fits(given)]
    if not fitting:
        picture = next((option for option in ("mask", "image") if option in given), None)
        what = f" and the job's {picture}" if picture else ""
        _refuse(f"No endpoint of the Space makes pictures from a prompt{what} alone; it has: {there}.", picture)
    preferred = [endpoint for endpoint in fitting if endpoint.api_name == _PREFERRED]
    if not preferred and len(fitting) > 1:
        names = ", ".join(endpoint.api_name for endpoint in fitting)
        _refuse(f"Several endpoints of the Space fit. Set FLUX_REMOTE_API_NAME to one of: {names}.")
    return (preferred or fitting)[0]


def _refuse(message: str, field: str | None = None) -> NoReturn:
    raise CapabilityError(message, field=field or "generator", limit=None)

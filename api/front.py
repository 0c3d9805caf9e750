"""What every request passes before its route, in this order."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from api.body_limit import BodyLimit
from api.hosts import HostCheck, KnownHosts
from api.last_resort import LastResort
from api.methods import HeadAsGet
from api.origins import OriginCheck
from api.proxy import Proxy
from shared.settings import ApiSettings

_READABLE: Final = (
    "Allow",
    "Content-Disposition",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "Retry-After",
)
"""Headers that pages of allowed origins may read beside those that all may."""


def install_front(app: FastAPI, settings: ApiSettings) -> None:
    """Put the common checks before all routes of ``app``; what is added last is passed first."""
    app.add_middleware(BodyLimit, max_bytes=settings.max_upload_bytes)
    app.add_middleware(OriginCheck, allowed=settings.cors_origins)
    app.add_middleware(HostCheck, known=KnownHosts(settings.allowed_hosts))
    app.add_middleware(Proxy, trusted=settings.forwarded_allow_ips, root_path=settings.root_path)
    app.add_middleware(LastResort)
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        CORSMiddleware,  # outermost: every answer of the others needs its headers
        allow_origins=list(settings.cors_origins),
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=_READABLE,
    )

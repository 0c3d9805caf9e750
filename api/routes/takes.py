"""Which content type a route takes, said before its body is judged field by field."""

from __future__ import annotations

from collections import Counter
from typing import Final

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from api.errors import MAX_FIELD_CHARACTERS
from shared.domain.errors import RequestError, UnsupportedMediaType

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


class FormRoute(APIRoute):
    """A route that is there for multipart forms only, so that another one at its address can take JSON."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as usual, if the request carries a form."""
        if scope["type"] == "http" and _media_type(Headers(scope=scope)) != FORM:
            return Match.NONE, {}
        return super().matches(scope)


class Takes:
    """A dependency that refuses bodies of another content type, and forms that give a field twice."""

    def __init__(self, *media_types: str) -> None:
        self._media_types = media_types

    async def __call__(self, request: Request) -> None:
        """Check one request; its body is read already.

        Raises:
          UnsupportedMediaType: it is of another type.
          RequestError: it is a form and gives a field twice.
        """
        sent = _media_type(request.headers)
        if sent not in self._media_types:
            wanted = " or ".join(self._media_types)
            raise UnsupportedMediaType(
                f"Content-Type is {sent or 'missing'}; this route takes {wanted}.", field="Content-Type", limit=wanted
            )
        if sent == FORM:
            times = Counter(name for name, _ in (await request.form()).multi_items())
            if repeated := next((name for name in times if times[name] > 1), None):
                field = repeated[:MAX_FIELD_CHARACTERS]
                raise RequestError(f"{field}: given {times[repeated]} times; once is enough.", field=field, limit=1)

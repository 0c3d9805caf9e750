"""Which content type a route takes, said before its body is judged field by field."""

from __future__ import annotations

from collections import Counter
from typing import Final

from fastapi import Request

from api.errors import MAX_FIELD_CHARACTERS
from shared.domain.errors import RequestError, UnsupportedMediaType

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"


class Takes:
    """A dependency that refuses bodies of another content type, and forms that give a field twice."""

    def __init__(self, media_type: str) -> None:
        self._media_type = media_type

    async def __call__(self, request: Request) -> None:
        """Check one request; its body is read already.

        Raises:
          UnsupportedMediaType: it is of another type.
          RequestError: it is a form and gives a field twice.
        """
        sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if sent != self._media_type:
            raise UnsupportedMediaType(
                f"Content-Type is {sent or 'missing'}; this route takes {self._media_type}.",
                field="Content-Type",
                limit=self._media_type,
            )
        if self._media_type == FORM:
            times = Counter(name for name, _ in (await request.form()).multi_items())
            if repeated := next((name for name in times if times[name] > 1), None):
                field = repeated[:MAX_FIELD_CHARACTERS]
                raise RequestError(f"{field}: given {times[repeated]} times; once is enough.", field=field, limit=1)

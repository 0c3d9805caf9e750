"""HTTP to this machine itself: no proxy setting of any form comes in between."""

from __future__ import annotations

import urllib.error
from typing import IO, Final, cast
from urllib.request import ProxyHandler, build_opener

_DIRECT: Final = build_opener(ProxyHandler({}))


def open_directly(url: str, *, timeout: float) -> IO[bytes]:
    """Return the answer to a GET of a URL of this machine, whatever its status; ``timeout`` in seconds.

    Raises:
      OSError, http.client.HTTPException: there is no answer, or none in HTTP.
    """
    try:
        return cast(IO[bytes], _DIRECT.open(url, timeout=timeout))
    except urllib.error.HTTPError as answer:  # its body, too, is for us
        return answer

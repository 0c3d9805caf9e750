"""`python -m api.healthcheck URL`: exit code 0 while a server of this container answers with success, else 1.

For a container's HEALTHCHECK. Proxy settings, which Docker may pass into every container, are left aside.
"""

from __future__ import annotations

import sys
from http.client import HTTPException
from typing import Final

from shared.direct import open_directly

_TIMEOUT_SECONDS: Final = 4.0


def main() -> int:
    """Ask the URL in the arguments, write what is wrong, and return the exit code."""
    url = sys.argv[1]
    try:
        with open_directly(url, timeout=_TIMEOUT_SECONDS) as answer:
            status = int(getattr(answer, "status", 0))
    except (OSError, HTTPException) as error:
        sys.stdout.write(f"unhealthy: {url} does not answer: {error}\n")
        return 1
    sys.stdout.write(f"{url} answers {status}\n")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())

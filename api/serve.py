"""`python -m api.serve HOST PORT`: the API as `flux-image up` starts it, on every address of the host.

uvicorn's own option would listen on the first kind of address only: `::` would leave IPv4 out.
"""

from __future__ import annotations

import sys
from typing import Final

import uvicorn

from shared.listening import CannotListen, bind_sockets

_GRACE_SECONDS: Final = 5


def main() -> None:
    """Serve until SIGTERM or SIGINT; exit with words when nothing can listen there."""
    host, port = sys.argv[1], int(sys.argv[2])
    try:
        sockets = bind_sockets(host, port)
    except CannotListen as error:
        sys.exit(str(error))
    config = uvicorn.Config(
        "api.main:create_app",
        factory=True,
        access_log=False,
        proxy_headers=False,  # the application reads them itself, see ``api.proxy``
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets)


if __name__ == "__main__":
    main()

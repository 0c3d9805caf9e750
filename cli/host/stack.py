"""Which processes make up the stack, and how each is started."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from typing import Final

from cli.host.part import Part
from shared.broker.names import QUEUES
from shared.domain.job import Lane
from shared.settings import ApiSettings, HostSettings, WorkerSettings

_ROTATE_BYTES: Final = 16 * 2**20
_SAVING_SECONDS: Final = 30.0
"""How long a worker may take beyond its grace time to save what is done and to close."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The parts in start order, and where to reach them."""

    parts: tuple[Part, ...]
    api_url: str
    flower_url: str | None
    broker: str


class PortInUse(RuntimeError):
    """Another program listens on the port."""


def plan_stack(settings: HostSettings, *, flower: bool, remote: bool = False) -> Stack:
    """Return the stack for these settings, without starting anything; ``remote`` adds the remote lane's worker.

    Raises:
      PortInUse: the API's or Flower's port is taken.
    """
    port = free_port(settings.host, settings.port, "--port")
    flower_port = free_port("127.0.0.1", settings.flower_port, "FLUX_FLOWER_PORT") if flower else None
    parts = [_api(settings, port), _worker(settings)]
    if remote:
        parts.append(_remote_worker(settings))
    if settings.redis_url is None:
        parts.insert(0, _broker(settings))
    if flower_port is not None:
        parts.append(_flower(settings, flower_port))
    reachable = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return Stack(
        parts=tuple(parts),
        api_url=f"http://{reachable}:{port}",
        flower_url=f"http://127.0.0.1:{flower_port}" if flower_port is not None else None,
        broker=settings.redis_url or f"embedded Valkey ({settings.embedded_broker_socket})",
    )


def free_port(host: str, port: int, option: str) -> int:
    """Return ``port`` if nothing listens on it, or any free one for 0.

    Raises:
      PortInUse: it is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(
                f"Cannot listen on {host}:{port} ({error.strerror}). Choose another with {option}."
            ) from None
        return int(probe.getsockname()[1])


def _broker(settings: HostSettings) -> Part:
    data = settings.data_dir.absolute() / "valkey"
    return _part(settings, "broker", "-m", "cli.host.broker", str(settings.embedded_broker_socket), str(data))


def _api(settings: HostSettings, port: int) -> Part:
    listen = ("--host", settings.host, "--port", str(port), "--no-access-log", "--timeout-graceful-shutdown", "5")
    arguments = ("-m", "uvicorn", "--factory", "api.main:create_app", *listen)
    # The application reads what proxies say by itself, and does not know by which name it listens, when it is a name.
    names = ",".join((*ApiSettings().allowed_hosts, settings.host))
    return _part(settings, "api", *arguments, "--no-proxy-headers", FLUX_ALLOWED_HOSTS=names)


def _worker(settings: HostSettings) -> Part:
    return _celery_worker(settings, "worker", "worker.app", Lane.GPU)


def _remote_worker(settings: HostSettings) -> Part:
    return _celery_worker(settings, "remote", "worker.remote_app", Lane.REMOTE)


def _celery_worker(settings: HostSettings, name: str, app: str, lane: Lane) -> Part:
    work = ("-m", "celery", "-A", app, "worker", "-Q", QUEUES[lane], "-n", f"{QUEUES[lane]}@%h", "-l", "INFO")
    part = _part(settings, name, *work, "--without-gossip", "--without-mingle")
    part.stop_seconds = _SAVING_SECONDS + WorkerSettings().shutdown_grace_seconds
    return part


def _flower(settings: HostSettings, port: int) -> Part:
    safe = ("--address=127.0.0.1", f"--port={port}", "--read_only", "--purge_offline_workers=300", "--max_tasks=5000")
    kept = ("--persistent=True", f"--db={settings.data_dir.absolute() / 'flower.db'}", "--state_save_interval=60000")
    return _part(settings, "flower", "-m", "celery", "-A", "api.flower", "flower", *safe, *kept)


def _part(settings: HostSettings, name: str, *arguments: str, **more: str) -> Part:
    env = {**os.environ, **more}
    env["FLUX_DATA_DIR"] = str(settings.data_dir.absolute())
    env["REDIS_URL"] = settings.resolved_redis_url
    log_path = settings.data_dir.absolute() / "logs" / f"{name}.log"
    if log_path.exists() and log_path.stat().st_size > _ROTATE_BYTES:
        log_path.replace(log_path.with_suffix(".log.1"))
    return Part(name, (sys.executable, *arguments), env, log_path)

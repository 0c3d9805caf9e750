"""Which processes make up the stack, and how each is started."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Final

from cli.host.environment import part_environment
from cli.host.part import Part
from shared.broker.names import QUEUES
from shared.domain.addresses import is_wildcard, url_host
from shared.domain.job import Lane
from shared.listening import CannotListen, bind_sockets
from shared.secrets import public_url
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
    port = free_port(settings.host, settings.port, "--host and --port (FLUX_HOST, FLUX_PORT)")
    flower_port = free_port("127.0.0.1", settings.flower_port, "FLUX_FLOWER_PORT") if flower else None
    parts = [_api(settings, port), _worker(settings)]
    if remote:
        parts.append(_remote_worker(settings))
    if settings.redis_url is None:
        parts.insert(0, _broker(settings))
    if flower_port is not None:
        parts.append(_flower(settings, flower_port))
    return Stack(
        parts=tuple(parts),
        api_url=f"http://{url_host(_reachable(settings.host))}:{port}",
        flower_url=f"http://127.0.0.1:{flower_port}" if flower_port is not None else None,
        broker=public_url(settings.resolved_redis_url)
        if settings.redis_url
        else f"embedded Valkey ({settings.embedded_broker_socket})",
    )


def free_port(host: str, port: int, option: str) -> int:
    """Return ``port`` if it can be listened on at every address of ``host``, or any free one for 0.

    Raises:
      PortInUse: it cannot; the message says why and names the option.
    """
    try:
        sockets = bind_sockets(host, port)
    except CannotListen as error:
        raise PortInUse(f"{error} Choose another with {option}.") from None
    bound = int(sockets[0].getsockname()[1])
    for probe in sockets:
        probe.close()
    return bound


def _reachable(host: str) -> str:
    """Return the host by which this machine reaches a server that listens on ``host``."""
    if not is_wildcard(host):
        return host
    return "::1" if ":" in host else "127.0.0.1"


def _broker(settings: HostSettings) -> Part:
    data = settings.data_dir / "valkey"
    return _part(settings, "broker", "-m", "cli.host.broker", str(settings.embedded_broker_socket), str(data))


def _api(settings: HostSettings, port: int) -> Part:
    # The application does not know by which name it listens, when it is a name.
    names = ",".join((*ApiSettings().allowed_hosts, settings.host))
    return _part(settings, "api", "-m", "api.serve", settings.host, str(port), FLUX_ALLOWED_HOSTS=names)


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
    kept = ("--persistent=True", f"--db={settings.data_dir / 'flower.db'}", "--state_save_interval=60000")
    return _part(settings, "flower", "-m", "celery", "-A", "api.flower", "flower", *safe, *kept)


def _part(settings: HostSettings, name: str, *arguments: str, **more: str) -> Part:
    log_path = settings.data_dir / "logs" / f"{name}.log"
    if log_path.exists() and log_path.stat().st_size > _ROTATE_BYTES:
        log_path.replace(log_path.with_suffix(".log.1"))
    return Part(
        name, (sys.executable, *arguments), part_environment(settings, os.environ) | more, settings.run_dir, log_path
    )

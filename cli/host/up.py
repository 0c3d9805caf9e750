"""`flux-image up`: the whole stack in the foreground."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from cli.host.data_dir_lock import DataDirInUse, hold_data_dir
from cli.host.migrate import EXIT_DATABASE
from cli.host.stack import PortInUse, Stack, plan_stack
from cli.host.supervisor import Supervisor
from cli.host.terminal import plain
from shared.db.migrate import DatabaseUnusable
from shared.db.prepare import prepare_database
from shared.db.workers import WorkerState
from shared.direct import open_directly
from shared.domain.addresses import is_loopback
from shared.secrets import public_url
from shared.settings import ApiSettings, HostSettings, OutsideSettings, WorkerSettings

EXIT_IN_USE: Final = 3


def run_up(settings: HostSettings, *, flower: bool) -> int:
    """Run until Ctrl+C or SIGTERM; return the exit code."""
    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(plain(line), soft_wrap=True)

    try:
        with running_stack(settings, flower=flower, say=say) as (stack, supervisor):
            with console.status("starting ...") as status:
                ready = wait_until_ready(stack, supervisor, lambda line: status.update(plain(line)), say)
            if ready:
                console.print(_table(settings, stack))
                supervisor.watch()
            console.print("stopping; a running job goes back to the queue ...")
    except (DataDirInUse, PortInUse) as error:
        print(error, file=sys.stderr)
        return EXIT_IN_USE
    except DatabaseUnusable as error:
        print(error, file=sys.stderr)
        return EXIT_DATABASE
    return 0


@contextmanager
def running_stack(
    settings: HostSettings, *, flower: bool, say: Callable[[str], None]
) -> Iterator[tuple[Stack, Supervisor]]:
    """Start the stack on a held, migrated data directory; stop every process at the end of the block.

    Raises:
      ValidationError: a setting of one of the parts makes no sense; nothing was started.
      DataDirInUse, PortInUse: something else is there already; nothing was started.
      DatabaseUnusable: the database is damaged, lost or of a newer version; nothing was started.
    """
    # A part that refuses its settings would be started again and again.
    outside, _, _ = OutsideSettings(data_dir=settings.data_dir), ApiSettings(), WorkerSettings()
    with hold_data_dir(settings.data_dir, settings.run_dir):
        stack = plan_stack(settings, flower=flower, remote=outside.uses_network)
        prepare_database(settings)
        supervisor = Supervisor(stack.parts, say)
        supervisor.listen_to_signals()
        try:
            supervisor.start()
            yield stack, supervisor
        finally:
            supervisor.stop()


def wait_until_ready(
    stack: Stack, supervisor: Supervisor, say: Callable[[str], None], tell: Callable[[str], None]
) -> bool:
    """Return ``True`` once ``GET /health/ready`` answers 200, ``False`` when a signal came first.

    ``say`` shows the state of things, again and again; ``tell`` is called once for each trouble of the worker.
    """
    told: str | None = None
    while supervisor.tick():
        state = _ready_state(stack.api_url)
        if state.get("ready"):
            return True
        worker = str(state.get("worker", "not yet"))
        if worker.startswith(WorkerState.UNHEALTHY) and worker != told:
            tell(f"worker is {worker}")
            told = worker
        say(f"starting ... worker: {worker}{_loading(state)}, broker: {state.get('broker', 'not yet')}")
    return False


def _loading(state: dict[str, Any]) -> str:
    """Return how far the worker is with its first model, such as ``, reads schnell: 12.3 of 33.7 GB, 40 s left``."""
    if not (loading := state.get("loading")):
        return ""
    done, total, left = loading["done_bytes"] / 1e9, loading["total_bytes"] / 1e9, loading["seconds_left"]
    time_left = "" if left is None else f", {left:.0f} s left"
    return f", reads {loading['model']}: {done:.1f} of {total:.1f} GB{time_left}"


def _ready_state(api_url: str) -> dict[str, Any]:
    """Return the answer of ``GET /health/ready``, ready or not; nothing while there is none."""
    try:
        with open_directly(f"{api_url}/health/ready", timeout=2) as answer:
            return dict(json.load(answer))
    except (OSError, ValueError, HTTPException):
        return {}


def _table(settings: HostSettings, stack: Stack) -> Table:
    table = Table(show_header=False, title="flux-image is up")
    for name, value in _rows(settings, stack):
        table.add_row(name, plain(value))
    return table


def _rows(settings: HostSettings, stack: Stack) -> Iterator[tuple[str, str]]:
    yield "API", stack.api_url
    yield "API guide", f"{stack.api_url}/docs"
    yield "Flower", stack.flower_url or "off"
    yield "Broker", stack.broker
    outside = OutsideSettings(data_dir=settings.data_dir)
    yield "Space", outside.remote_space or "none: every picture is made on this machine"
    if outside.enhancer_url is not None:
        yield "Prompt enhancer", f"{outside.enhancer_model} at {public_url(outside.enhancer_url)}"
    yield "Data", str(settings.data_dir)
    yield "Logs", str(settings.data_dir / "logs")
    for kind, (model, reason) in _default_models(stack.api_url).items():
        yield f"Model for {kind}", f"{model} ({reason})"
    if not is_loopback(settings.host):
        yield "Note", f"listens on {settings.host}, without authentication: whoever reaches it can use it"


def _default_models(api_url: str) -> dict[str, tuple[str, str]]:
    try:
        with open_directly(f"{api_url}/api/models", timeout=5) as answer:
            models = json.load(answer)
        return {kind: (model, models["default_reasons"][kind]) for kind, model in models["defaults"].items()}
    except (OSError, ValueError, KeyError, HTTPException):
        return {}

"""The GPU worker: what a child of it sees of the device, and what the one that runs says about itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from cli.host.checks.finding import Finding, Level, note, ok, problem
from shared.clock import utc_now
from shared.db.engine import Database
from shared.db.workers import WorkerRepository
from shared.domain.job import Lane
from shared.settings import CoreSettings

_TIMEOUT_SECONDS: Final = 180


def check(settings: CoreSettings) -> Iterator[Finding]:
    """Yield what the worker that runs says; unless that is well, what a child sees that is forked as it forks its own.

    Beside a worker that works no child is asked: the card may have no room for another process.
    """
    state = list(_state(settings))
    yield from state
    if not any(finding.level is Level.OK for finding in state):
        yield from judge_child(_ask_child(settings))


def _state(settings: CoreSettings) -> Iterator[Finding]:
    if settings.database_url is None and not (settings.data_dir / "flux-image.db").exists():
        return
    database = Database(settings.resolved_database_url)
    try:
        yield judge_worker(WorkerRepository(database))
    except SQLAlchemyError:  # the group about data says what is wrong with it
        return
    finally:
        database.dispose()


def judge_child(answer: dict[str, Any]) -> Iterator[Finding]:
    """Yield what the answer of ``python -m worker.probe`` means."""
    if error := answer.get("error"):
        yield problem(f"a child of the worker cannot use the device: {error}; until it can, jobs wait")
        return
    yield ok(f"a child of the worker runs on {answer['device']}")
    for kind, default in answer["defaults"].items():
        yield ok(f"model for {kind}: {default}")


def judge_worker(workers: WorkerRepository) -> Finding:
    """Return what the GPU worker's row says."""
    worker = workers.latest(Lane.GPU)
    if worker is None or worker.is_gone(utc_now()):
        return note("the worker does not run (it starts with `flux-image up`)")
    if trouble := workers.trouble(Lane.GPU):
        return problem(f"the worker runs no jobs: {trouble}")
    if not worker.report:
        return note(f"the worker is {worker.state.value}")
    return ok(f"the worker is {worker.state.value}, on {worker.report['device']}")


def _ask_child(settings: CoreSettings) -> dict[str, Any]:
    env = {**os.environ, "FLUX_DATA_DIR": str(settings.data_dir.absolute()), "FLUX_LOG_LEVEL": "ERROR"}
    try:
        command = [sys.executable, "-m", "worker.probe"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True, env=env)
        return dict(json.loads(answer.stdout.splitlines()[-1]))
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
        return {"error": f"the worker cannot be started: {last[0]}"}
    except (subprocess.SubprocessError, OSError, ValueError, IndexError) as error:
        return {"error": str(error)}

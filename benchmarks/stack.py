"""The real stack on a data directory of its own, as `flux-image up` runs it."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks.report import say
from cli.host.up import running_stack, wait_until_ready
from shared.settings import HostSettings

_START_SECONDS: Final = 90


@dataclass(frozen=True, slots=True)
class BenchStack:
    """A stack that is ready."""

    api_url: str
    data_dir: Path
    pids: dict[str, int]
    """Process id of each part, by name."""


@contextmanager
def bench_stack(*, flower: bool = True) -> Iterator[BenchStack]:
    """Start the stack in a temporary directory (``TMPDIR`` chooses the disk) and stop it at the end of the block."""
    # The measured stack is the one of the sources, whatever this machine is set up for.
    for variable in ("REDIS_URL", "FLUX_DATABASE_URL"):
        os.environ.pop(variable, None)
    os.environ["FLUX_MODEL"] = "demo"
    with tempfile.TemporaryDirectory(prefix="flux-bench-") as directory:
        settings = HostSettings(data_dir=Path(directory), redis_url=None, database_url=None, port=0, flower_port=0)
        with running_stack(settings, flower=flower, say=say) as (stack, supervisor):
            _end_on_signals()  # the supervisor's handlers would only note them
            say("starting the stack ...")
            _give_up_after(_START_SECONDS)
            wait_until_ready(stack, supervisor, lambda _: None, say)
            signal.alarm(0)
            pids = {part.name: part.pid for part in supervisor.parts if part.pid is not None}
            yield BenchStack(stack.api_url, settings.data_dir, pids)


def _end_on_signals() -> None:
    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)


def _give_up_after(seconds: int) -> None:
    """End a wait that a part which cannot start would make endless."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"the stack is not ready after {seconds} s")

    signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)

"""Starts the real stack (`flux-image up`) in a process of its own, for tests that need all of it."""

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

from cli.client import FluxImageClient

START_SECONDS = 240
"""Importing the GPU stack takes 10 s of computing, more than once, on machines that do other things as well."""
STOP_SECONDS = 60
_PORTS = itertools.count(20_000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))


def free_port() -> int:
    """A port nobody listens on right now, nor will soon: another for each call, and none that the kernel hands out."""
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable: the count has no end")


class RunningStack:
    """One `flux-image up`; use as a context manager."""

    def __init__(
        self, data_dir: Path, *options: str, env: dict[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.data_dir = data_dir
        self._cwd = cwd
        self.url = f"http://127.0.0.1:{free_port()}"
        self._options = options
        self._env = env or {}
        self.output = ""

    def __enter__(self) -> "RunningStack":
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()
        self._log.close()

    def start(self) -> None:
        # -P: as the installed command does, which imports nothing from the working directory.
        command = [sys.executable, "-P", "-m", "cli", "up", "--port", self.url.rsplit(":", 1)[1]]
        self._log = (self.data_dir.parent / f"{self.data_dir.name}-up.log").open("w+")
        self.process = subprocess.Popen(
            [*command, "--data-dir", str(self.data_dir), *self._options],
            env={**os.environ, "FLUX_FLOWER_PORT": "0", **self._env},
            cwd=self._cwd,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"up ended with {self.process.returncode}: {self.read_output()}")
            if self.ready_state().get("ready"):
                return
            time.sleep(0.1)
        raise AssertionError(f"not ready: {self.ready_state()}\n{self.read_output()}\n{self.logs()}")

    def ready_state(self) -> dict:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)
        except (OSError, http.client.HTTPException):
            return {}

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Ask for the end and return the exit code; no process of the stack may survive."""
        family = self.family()
        self.process.send_signal(signal_number)
        code = self.process.wait(STOP_SECONDS)
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        assert not alive, f"orphans: {alive}"
        return code

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def part(self, *words: str) -> list[psutil.Process]:
        """Processes of the stack whose command line holds all these words, parents first."""
        return [process for process in self.family() if all(word in command_line(process) for word in words)]

    def worker_child(self) -> psutil.Process:
        parent = self.part("worker.app")[0]
        return wait_for(lambda: next(iter(parent.children()), None), "the worker has a child")

    def client(self) -> FluxImageClient:
        return FluxImageClient(self.url)

    def read_output(self) -> str:
        return (self.data_dir.parent / f"{self.data_dir.name}-up.log").read_text()

    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in (self.data_dir / "logs").glob("*"))


def command_line(process: psutil.Process) -> str:
    """How it was started; nothing once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def wait_for(condition, what: str, seconds: float = 30.0):
    """Return the first true value of ``condition()``, polled; fail after ``seconds``, saying ``what`` it waited for.

    A callable ``what`` is asked at the failure, for logs that say more by then.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"did not happen in {seconds} s: {what() if callable(what) else what}")

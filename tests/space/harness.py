"""Starts the Spaces in a process of their own, as they would run on another machine."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.stack import wait_for

ROOT = Path(__file__).resolve().parents[2]


class SpaceServer:
    """All Spaces of ``tests.space.server`` at ``url``; the Hub before them is at the same address."""

    def __init__(self, folder):
        environment = {
            **os.environ,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": str(folder),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(ROOT),
        }
        self.folder = folder
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.space.server"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        port = self._process.stdout.readline().decode().strip()
        if not port:
            self._errors.seek(0)
            raise RuntimeError(f"the Spaces did not start: {self._errors.read().decode()[-2000:]}")
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """End without a goodbye to anybody."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    @contextmanager
    def frozen(self):
        """While entered, connections are kept and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def log(self):
        return httpx2.get(f"{self.url}/log", timeout=30, trust_env=False).json()

    def calls(self):
        return self.log()["calls"]

    def wait_for_cancel(self):
        """Wait until somebody has asked to cancel a call, which clients do without waiting for it."""
        wait_for(lambda: self.log()["cancels"], "a cancel has come", 60)

    def advance(self, count=1):
        httpx2.post(f"{self.url}/advance", params={"count": count}, timeout=30, trust_env=False).raise_for_status()

    @contextmanager
    def mood(self, mood):
        """While entered, every call goes as ``mood`` says, whatever its prompt."""
        self._feel(mood)
        try:
            yield
        finally:
            self._feel("")

    def _feel(self, mood):
        httpx2.post(f"{self.url}/mood", params={"mood": mood}, timeout=30, trust_env=False).raise_for_status()

    def reset(self):
        httpx2.post(f"{self.url}/reset", timeout=30, trust_env=False).raise_for_status()

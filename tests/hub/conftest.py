import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.repositories import SCHNELL, tiny_flux
from tests.hub.server import Hub, serving_hub

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Pulled:
    """How the command ended and what it said."""

    code: int
    said: str

    def refused(self) -> str:
        """What it said, which must be words for a person."""
        assert self.code == 1, self.said
        assert "Traceback" not in self.said
        return self.said


class Machine:
    """A home directory, and `flux-image pull` run in it as a process of its own."""

    def __init__(self, home: Path, hub: Hub) -> None:
        self.cache = home / "huggingface" / "hub"
        # A second of silence counts as a fault, so that no test waits for ten.
        self.env = {
            "HOME": str(home),
            "HF_HOME": str(home / "huggingface"),
            "HF_ENDPOINT": hub.origin,
            "HF_HUB_DOWNLOAD_TIMEOUT": "1",
            "PATH": os.environ["PATH"],
        }

    def start(self, model: str = "schnell", *, wrapper: tuple[str, ...] = (), **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*wrapper, sys.executable, "-m", "cli", "pull", model],
            env=self.env | env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def pull(self, model: str = "schnell", *, wrapper: tuple[str, ...] = (), **env: str) -> Pulled:
        process = self.start(model, wrapper=wrapper, **env)
        said, _ = process.communicate(timeout=600)
        return Pulled(process.returncode, said)

    def blobs(self, repo_id: str = SCHNELL) -> Path:
        return self.cache / f"models--{repo_id.replace('/', '--')}" / "blobs"

    def partial(self, etag: str) -> Path:
        return self.blobs() / f"{etag}.incomplete"


@pytest.fixture
def hub():
    with serving_hub() as hub:
        hub.repositories[SCHNELL] = tiny_flux()
        yield hub


@pytest.fixture
def machine(tmp_path, hub):
    return Machine(tmp_path, hub)

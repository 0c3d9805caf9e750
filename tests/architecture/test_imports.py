"""What a process must not load, checked in a fresh interpreter."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchao", "bitsandbytes", "accelerate", "diffusers", "transformers", "gradio_client")


def loaded_after(statement: str, names: tuple[str, ...]) -> list[str]:
    code = f"{statement}\nimport sys\nprint(*[name for name in {names!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return answer.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    "statement",
    [
        "from api.main import create_app; create_app()",
        "import api.flower",
        "import cli.client",
        "import cli.host.up, cli.host.demo, cli.host.pull, cli.host.plan",
        "import shared.db.migrate, shared.broker.app, shared.channel.progress",
        "import worker.runner, worker.tasks, worker.demo.vocabulary",
        "import worker.app",
        "import worker.remote_app",
        "import worker.probe, worker.pipelines.weight_reader",
    ],
)
def test_the_gpu_stack_stays_in_the_generators(statement):
    assert loaded_after(statement, HEAVY) == []


def test_help_loads_no_server():
    statement = "from typer.testing import CliRunner; from cli.main import app; CliRunner().invoke(app, ['--help'])"
    names = (*HEAVY, "fastapi", "sqlalchemy", "celery", "pydantic_settings", "httpx2", "PIL")
    assert loaded_after(statement, names) == []


def test_importing_the_api_does_no_work(tmp_path):
    code = "import api.main"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env={"HOME": str(tmp_path), "PATH": ""})
    assert list(tmp_path.iterdir()) == []

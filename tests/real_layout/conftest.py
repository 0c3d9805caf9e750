"""A truncated FLUX.1 family in the Hugging Face cache's own layout, brought there by `flux-image pull`.

The family is made by ``tools/truncated_flux.py`` in the folder ``shared`` beside the checkout, or where
``FLUX_SHARED_TOOLS`` says. It has real configurations, tokenizers, shards and layer widths, few layers, random weights.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from cli.client import FluxImageClient, FluxImageError
from shared.catalog import CATALOG
from shared.db.engine import open_database
from shared.db.migrate import migrate
from tests.broker import serving_broker
from tests.chaos.rig import Process
from tests.hub.conftest import Machine
from tests.hub.repositories import from_cache
from tests.hub.server import TOKEN, serving_hub
from tests.real_layout.jobs import JOBS, SEED, SIDE, SOURCE, STEPS, PaintJob
from tests.real_layout.steps import recorded
from tests.stack import START_SECONDS, free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("FLUX_SHARED_TOOLS", ROOT.parent / "shared" / "tools"))
ROOM_GB = 10
"""3.8 GB are made, 4.1 GB pulled (the two models share files only where they are made), and some to spare."""
PATIENCE_SECONDS = "60"
MEMORY_GB = 6
"""The worker holds both models in bfloat16, 3.5 GB, and a part twice while it is read."""


@pytest.fixture(scope="session")
def hf_home(tmp_path_factory):
    """``HF_HOME`` with schnell and Kontext as `flux-image pull` brought them; gone after the last test."""
    tool = TOOLS / "truncated_flux.py"
    if not tool.is_file():
        pytest.skip(f"{tool} is not here (FLUX_SHARED_TOOLS names another folder)")
    root = tmp_path_factory.mktemp("real-layout")
    free_gb = shutil.disk_usage(root).free / 1e9
    if free_gb < ROOM_GB:
        pytest.skip(f"{root} has {free_gb:.1f} GB free; {ROOM_GB} are needed")
    if (available_gb := available_memory_gb()) < MEMORY_GB:
        pytest.skip(f"{available_gb:.1f} GB of memory are free; {MEMORY_GB} are needed")
    try:
        models = ",".join(job.model for job in JOBS)
        build = [sys.executable, tool, root / "made", "--models", models]
        made = subprocess.run(build, capture_output=True, text=True, cwd=ROOT)
        assert made.returncode == 0, made.stderr
        yield pull_all(root)
    finally:
        shutil.rmtree(root)


def pull_all(root: Path) -> Path:
    """Serve what was made, pull it, and drop the original."""
    with serving_hub() as hub:
        for job in JOBS:
            repo_id = CATALOG[job.model].repo_id
            hub.repositories[repo_id] = from_cache(root / "made" / f"models--{repo_id.replace('/', '--')}")
            if CATALOG[job.model].gated:
                hub.gated.add(repo_id)
        machine = Machine(root, hub)
        for job in JOBS:
            pulled = machine.pull(job.model, HF_TOKEN=TOKEN, HF_HUB_DOWNLOAD_TIMEOUT=PATIENCE_SECONDS)
            assert pulled.code == 0, pulled.said
            assert "(100 %)" in pulled.said
    shutil.rmtree(root / "made")
    return machine.cache.parent


def available_memory_gb() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 1e6


@pytest.fixture(scope="session")
def stock(hf_home, tmp_path_factory):
    """The latents of every step of every job, by stock diffusers."""
    folder = tmp_path_factory.mktemp("stock")
    paint = [sys.executable, "-m", "tests.real_layout.stock", folder]
    done = subprocess.run(paint, capture_output=True, text=True, cwd=ROOT, env=os.environ | offline(hf_home))
    assert done.returncode == 0, done.stderr
    return recorded(folder)


def offline(hf_home: Path) -> dict[str, str]:
    return {"HF_HOME": str(hf_home), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="session")
def painted(hf_home, tmp_path_factory):
    """The worker's data directory after the jobs came to it over HTTP and the real queue, and the finished jobs."""
    data_dir = tmp_path_factory.mktemp("stack") / "data"
    with running_stack(data_dir, offline(hf_home)) as client:
        asked = [
            client.edit(SOURCE, job.prompt, **options(job))
            if job.is_edit
            else client.generate(job.prompt, **options(job))
            for job in JOBS
        ]
        return data_dir, [client.wait(job.id, timeout_seconds=600) for job in asked]


def options(job: PaintJob) -> dict[str, object]:
    sizes = {"width": SIDE, "height": SIDE, "num_inference_steps": STEPS}
    return {"model": job.model, "guidance_scale": job.guidance_scale, "seed": SEED, **sizes}


@contextmanager
def running_stack(data_dir: Path, env: dict[str, str]) -> Iterator[FluxImageClient]:
    """Broker, API and the Celery worker of ``worker_root``, each a process of its own."""
    data_dir.mkdir()
    with serving_broker() as broker_url:
        common = {**env, "FLUX_DATA_DIR": str(data_dir), "REDIS_URL": broker_url, "FLUX_WARM_MODELS": "false"}
        port = free_port()
        serve = ("-m", "uvicorn", "--factory", "api.main:create_app", "--port", str(port), "--no-access-log")
        work = ("-m", "celery", "-A", "tests.real_layout.worker_root", "worker", "-Q", "gpu", "-n", "gpu@%h")
        api = Process((sys.executable, *serve), common, data_dir / "api.log")
        worker = Process((sys.executable, *work, "--without-gossip"), common, data_dir / "worker.log")
        database = open_database(f"sqlite:///{data_dir / 'flux-image.db'}")
        migrate(database)
        database.dispose()
        try:
            api.start()
            worker.start()
            with FluxImageClient(f"http://127.0.0.1:{port}") as client:
                wait_for(lambda: is_ready(client), lambda: worker.log.read_text()[-5000:], START_SECONDS)
                yield client
        finally:
            worker.end()
            api.end()


def is_ready(client: FluxImageClient) -> bool:
    try:
        return client.ready().ready
    except (httpx2.TransportError, FluxImageError):
        return False

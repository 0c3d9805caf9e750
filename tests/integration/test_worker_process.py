"""The worker's processes as on a machine with a card: who imports what, who may use CUDA, what a failure says."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from shared.domain.status import JobStatus
from tests.chaos.worker_bench import WorkerBench, succeeded
from tests.stack import wait_for

ROOT = Path(__file__).resolve().parents[2]
FORK_RULE = ROOT / "tests" / "fork_rule"
GPU_STACK = {"torch", "torchao", "bitsandbytes", "diffusers", "transformers", "accelerate", "triton", "gradio_client"}


@pytest.fixture
def bench(tmp_path):
    """The product's own worker, where CUDA that was used before a fork is lost to the child, as on a card."""
    (tmp_path / "data").mkdir()
    notes = tmp_path / "notes"
    notes.mkdir()
    python_path = os.pathsep.join([str(FORK_RULE), str(ROOT)])
    with WorkerBench(
        tmp_path / "data", "worker.app", PYTHONPATH=python_path, FORK_RULE_NOTES=str(notes), FLUX_DEVICE="auto"
    ) as bench:
        bench.notes = notes
        yield bench


def test_the_parent_never_loads_the_gpu_stack_so_that_its_child_gets_the_card(bench):
    # Given the real worker, and a job that it ran
    bench.start()
    job = bench.submit()
    assert succeeded(bench.wait_until_over(job))
    # Then its parent had no module of the GPU stack when it forked, and maps no library of it now
    modules = (bench.notes / str(bench.parent_pid)).read_text().splitlines()
    assert {name.partition(".")[0] for name in modules} & GPU_STACK == set()
    maps = Path(f"/proc/{bench.parent_pid}/maps").read_text()
    assert [name for name in GPU_STACK if f"/{name}/" in maps] == []
    # And the child, which ran the job, does
    assert "/torch/" in Path(f"/proc/{bench.child_pid()}/maps").read_text()


def test_a_killed_child_is_replaced_by_one_that_works(bench):
    # Given an idle worker
    bench.start()
    killed = bench.child_pid()
    # When its child is killed
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: bench.child_pid() != killed, "another child has a row", 60)
    bench.wait_until_idle()
    # Then the next one gets the card as well
    assert succeeded(bench.wait_until_over(bench.submit()))


@pytest.fixture
def broken_torch(tmp_path):
    """A folder with a torch that cannot be imported, as when a library of CUDA is missing."""
    package = tmp_path / "broken" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    return package


def test_an_engine_that_does_not_start_is_said_and_tried_again_until_it_works(tmp_path, broken_torch):
    # Given a worker whose torch cannot be imported
    python_path = os.pathsep.join([str(broken_torch.parent), str(ROOT)])
    with WorkerBench(tmp_path, "tests.integration.quick_retry_root", PYTHONPATH=python_path) as bench:
        bench.launch()
        # Then it stays up and says why, try after try, and no job is claimed
        words = bench.wait_until_ready_says("unhealthy")
        assert "ImportError: libcudart.so.13: cannot open shared object file" in words
        job, first = bench.submit(), bench.child_pid()
        wait_for(lambda: bench.child_pid() != first, "it tries again", 60)
        assert bench.ready()["worker"] == words
        assert bench.jobs.get(job).status is JobStatus.QUEUED
        # And when torch is mended, it gets well by itself and runs what waits
        shutil.rmtree(broken_torch)
        assert succeeded(bench.wait_until_over(job))
        assert bench.jobs.get(job).attempt == 1
        bench.wait_until_idle()


def test_a_worker_that_waits_for_its_engine_ends_when_it_is_told_to(tmp_path, broken_torch):
    # Given a worker that says for a minute why it does not start
    python_path = os.pathsep.join([str(broken_torch.parent), str(ROOT)])
    with WorkerBench(tmp_path, "worker.app", PYTHONPATH=python_path) as bench:
        bench.launch()
        bench.wait_until_ready_says("tried again every 60 s")
        # When it is asked to end, then it does, with a row that says goodbye
        told_at = time.monotonic()
        bench.stop(signal.SIGTERM)
        assert time.monotonic() - told_at < 30
        assert bench.ready()["worker"] == "offline"

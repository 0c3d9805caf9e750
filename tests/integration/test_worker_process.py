"""The worker's processes as on a machine with a card: who imports what, who may use CUDA, what a failure says."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.worker_bench import WorkerBench, succeeded

ROOT = Path(__file__).resolve().parents[2]
FORK_RULE = ROOT / "tests" / "fork_rule"
GPU_STACK = {"torch", "torchao", "bitsandbytes", "diffusers", "transformers", "accelerate", "triton", "gradio_client"}
KILL_TO_IDLE_SECONDS = 8.0
"""On two cores that do nothing else; a respawned child imports the GPU stack and loads the demo model."""


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
    assert "/torch/" in Path(f"/proc/{bench.child().pid}/maps").read_text()


def test_a_killed_child_is_replaced_by_one_that_works(bench, record_property):
    # Given an idle worker
    bench.start()
    # When its child is killed
    killed_at = time.monotonic()
    os.kill(bench.child().pid, signal.SIGKILL)
    bench.wait_until_idle()
    record_property("kill_to_idle_seconds", time.monotonic() - killed_at)
    # Then the next one gets the card as well
    assert succeeded(bench.wait_until_over(bench.submit()))

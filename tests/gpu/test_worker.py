"""The worker as it is started, Celery and fork included, on a card; skipped, with a reason, where torch sees none."""

import pytest
import torch

from shared.db.workers import WorkerState
from shared.domain.job import Lane
from tests.chaos.worker_bench import WorkerBench, succeeded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def test_the_real_worker_paints_a_demo_picture_on_the_card(tmp_path):
    # Given the product's own worker: Celery's parent, and the child it forks
    with WorkerBench(
        tmp_path, "worker.app", FLUX_DEVICE="cuda", FLUX_MODEL="demo", FLUX_EDIT_MODEL="demo-kontext"
    ) as bench:
        bench.start()
        # When a job is submitted
        job = bench.wait_until_over(bench.submit())
        # Then it was painted there
        assert succeeded(job), job
        worker = bench.workers.latest(Lane.GPU)
        assert worker.state in (WorkerState.IDLE, WorkerState.WARMING)
        assert torch.cuda.get_device_name(0) in worker.report["device"]

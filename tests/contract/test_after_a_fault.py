"""A real job through the real pipelines, after one that was cancelled, ran out of memory or failed: the same bytes."""

import pytest
import torch

from shared.catalog import CATALOG
from shared.db.jobs import JobFilter
from shared.domain.status import JobStatus
from tests.builders import new_job, params
from tests.contract.scripted import run_to_its_end
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.device import pick_device
from worker.pipelines.store import PipelineStore
from worker.pipelines.weights import Weights

RUNNING = JobFilter((JobStatus.RUNNING,), ())
SMALL = {"width": 64, "height": 64, "num_inference_steps": 3}


@pytest.fixture(scope="module")
def store():
    return PipelineStore(Weights(), pick_device("cpu"))


@pytest.fixture
def run(make_runner, jobs, store):
    """Submit a job, run it to its end, and return it."""

    def run(**changes):
        job = jobs.add(new_job(params=params(**SMALL, **changes)), 10)
        run_to_its_end(make_runner(None, generator=FluxLocalGenerator(store)))
        return jobs.get(job.id)

    return run


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), JobStatus.QUEUED, "out_of_memory"),
        (ValueError("a bug in the model"), JobStatus.FAILED, "internal_error"),
        (None, JobStatus.CANCELLED, None),
    ],
    ids=["out of memory", "error", "cancel"],
)
def test_the_next_job_is_as_if_nothing_had_happened(run, jobs, channel, store, raised, status, code):
    before = run(seed=5)

    def disturb(*_):
        if raised is not None:
            raise raised
        for job in jobs.page(RUNNING, 10, None).jobs:
            jobs.request_cancel(job.id)
            channel.hint_cancel(job.id)

    # Given a job that is disturbed inside the transformer
    hook = store.get(CATALOG["demo"]).transformer.register_forward_pre_hook(disturb)
    try:
        disturbed = run(seed=6)
    finally:
        hook.remove()
    assert disturbed.status is status
    assert [item.error.code for item in disturbed.attempts if item.error] == ([code] if code else [])
    # When the next one runs, then its file is the same as one made before
    after = run(seed=5)
    assert [image.sha256 for image in after.images] == [image.sha256 for image in before.images]
    assert after.status is JobStatus.SUCCEEDED

"""What is loaded decides, among equals, which job the runner takes: with the real pipelines and a real queue."""

from datetime import timedelta

import pytest

from shared.channel.progress import ProgressChannel
from shared.db.claims import ClaimRepository
from shared.db.jobs import JobRepository
from shared.domain.job import Lane
from shared.domain.params import JobKind
from shared.settings import WorkerSettings
from shared.storage.local import LocalMediaStorage
from tests.builders import new_job, params
from worker.generators.flux_local import FluxLocalGenerator
from worker.pipelines.resident import make_store
from worker.runner import Runner, RunnerLimits


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    settings = WorkerSettings(_env_file=None, data_dir=tmp_path_factory.mktemp("data"), device="cpu")
    return FluxLocalGenerator(make_store(settings))


def test_a_generator_tells_what_it_has_loaded(generator):
    before = generator.resident()
    generator.warm("demo")
    assert (before, generator.resident()) == (frozenset(), frozenset({"demo"}))


def test_the_runner_takes_the_younger_job_whose_model_is_loaded(generator, database, tmp_path):
    # Given a job of a model that is not loaded, and a younger one of a model that is
    jobs = JobRepository(database)
    generator.warm("demo")
    jobs.add(new_job(model="dev", params=params(kind=JobKind.GENERATE)), 10)
    loaded = jobs.add(new_job(params=params(width=64, height=64, num_inference_steps=1)), 10)
    runner = Runner(
        owner="w1",
        lane=Lane.GPU,
        generator=generator,
        claims=ClaimRepository(database),
        storage=LocalMediaStorage(tmp_path / "media"),
        channel=ProgressChannel("redis://127.0.0.1:1"),
        limits=RunnerLimits(timedelta(seconds=30), heartbeat_seconds=5),
    )
    assert runner.run_next().startswith(loaded.id)
    runner.close()

"""What a GPU worker does at its start for the jobs of the one before it."""

from datetime import timedelta

import redis

from shared.broker.depth import queue_depth
from shared.broker.urls import redis_url
from shared.db.claims import ClaimRepository
from shared.domain.job import Lane
from shared.settings import WorkerSettings
from tests.builders import new_job
from tests.contract.scripted import ScriptedGenerator, paint
from tests.factories import demo_report
from tests.stack import wait_for
from worker.build import GpuWorker


def test_a_new_worker_rings_for_the_job_that_died_with_the_last_one(database, jobs, broker_url, tmp_path):
    # Given a job whose worker died, and no bell left in the broker
    job = jobs.add(new_job(), 10)
    ClaimRepository(database).claim(Lane.GPU, "wrk_dead", timedelta(seconds=30))
    settings = WorkerSettings(
        _env_file=None, data_dir=tmp_path, database_url=str(database.engine.url), redis_url=broker_url
    )
    worker = GpuWorker(settings, lambda: (ScriptedGenerator(paint), demo_report()))
    with redis.Redis.from_url(redis_url(broker_url)) as broker:
        broker.flushall()
        # When the next one starts
        worker.start()
        try:
            # Then it is told to run the job, with no reconciler anywhere
            wait_for(lambda: queue_depth(broker, Lane.GPU) == 1, "the bell rang")
            assert worker.run_next().startswith(job.id)
        finally:
            worker.close()

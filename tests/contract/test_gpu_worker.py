"""What a GPU worker does at its start, for the jobs of the one before it and for those to come."""

from datetime import timedelta

import pytest
import redis

from shared.broker.depth import queue_depth
from shared.broker.urls import redis_url
from shared.channel.progress import ProgressChannel
from shared.db.claims import ClaimRepository
from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.errors import DeviceLost, ModelUnavailable
from shared.domain.job import Lane
from shared.domain.precision import Precision
from shared.domain.report import LoadingReport
from shared.domain.status import JobStatus
from shared.settings import WorkerSettings
from tests.builders import new_job
from tests.contract.scripted import ScriptedGenerator, paint
from tests.factories import demo_report
from tests.stack import wait_for
from worker.build import GpuWorker
from worker.engine_start import EngineFailed

HALF = LoadingReport(model="demo", done_bytes=1, total_bytes=2, seconds_left=1.0)


class WarmedGenerator(ScriptedGenerator):
    """Notes what is loaded ahead; ``on_warm(model, listener)`` is called meanwhile."""

    def __init__(self, on_warm=lambda _model, _listener: None):
        super().__init__(lambda context: context and paint(context))  # a try without a job has no context
        self.tried, self.loaded = [], []
        self._on_warm = on_warm
        self._listener = None

    def tell_loading(self, listener):
        self._listener = listener

    def warm(self, model, precision=Precision.EXACT):
        self.tried.append(model)
        self._on_warm(model, self._listener)
        self.loaded.append(model)


@pytest.fixture
def settings(database, broker_url, tmp_path):
    return WorkerSettings(
        _env_file=None, data_dir=tmp_path, database_url=str(database.engine.url), redis_url=broker_url
    )


@pytest.fixture
def start(settings):
    """Start a worker of this generator; it is closed after the test."""
    started = []

    def start(generator, **changes):
        worker = GpuWorker(settings.model_copy(update=changes), lambda: (generator, demo_report()))
        started.append(worker)
        worker.start()
        return worker

    yield start
    for worker in started:
        worker.close()


@pytest.fixture
def workers(database):
    return WorkerRepository(database)


def test_a_new_worker_rings_for_the_job_that_died_with_the_last_one(start, database, jobs, broker_url):
    # Given a job whose worker died, and no bell left in the broker
    job = jobs.add(new_job(), 10)
    ClaimRepository(database).claim(Lane.GPU, "wrk_dead", timedelta(seconds=30))
    with redis.Redis.from_url(redis_url(broker_url)) as broker:
        broker.flushall()
        # When the next one starts
        worker = start(ScriptedGenerator(paint), warm_models=False)
        # Then it is told to run the job, with no reconciler anywhere
        wait_for(lambda: queue_depth(broker, Lane.GPU) == 1, "the bell rang")
        assert worker.run_next().startswith(job.id)


class TestAnEngineThatDoesNotStart:
    ERROR = RuntimeError("Cannot re-initialize CUDA in forked subprocess.\nMore words")

    def fail(self, settings, error):
        def make_generator():
            raise error

        worker = GpuWorker(settings, make_generator, retry_seconds=0.01)
        with pytest.raises(EngineFailed):
            worker.start()
        return worker

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (ERROR, "RuntimeError: Cannot re-initialize CUDA in forked subprocess."),
            (ImportError("libcudart.so.13: cannot open"), "ImportError: libcudart.so.13: cannot open"),
            (ModelUnavailable("FLUX.1 cannot run."), "FLUX.1 cannot run."),
            (AssertionError(), "AssertionError"),
        ],
    )
    def test_the_worker_s_row_says_why_and_jobs_wait(self, settings, workers, jobs, error, words):
        # Given a waiting job
        job = jobs.add(new_job(), 10)
        # When a worker cannot make its generator
        worker = self.fail(settings, error)
        # Then its row says so in words, and the job was not claimed
        row = workers.latest(Lane.GPU)
        assert (row.state, row.trouble) == (WorkerState.UNHEALTHY, f"{words} (tried again every 0.01 s)")
        assert (jobs.get(job.id).status, jobs.get(job.id).attempt) == (JobStatus.QUEUED, 0)
        worker.close()

    def test_the_next_process_keeps_saying_it_until_it_works_and_then_runs_what_waits(self, settings, workers, jobs):
        # Given a worker whose engine did not start, and which was replaced
        job = jobs.add(new_job(), 10)
        self.fail(settings, self.ERROR)._lock.release()  # as the kernel does at its end
        said = []

        def make_generator():
            said.append(workers.latest(Lane.GPU))
            return ScriptedGenerator(paint), demo_report()

        # When the next one tries
        worker = GpuWorker(settings, make_generator)
        worker.start()
        # Then nobody took it for healthy before it was
        assert [row.state for row in said] == [WorkerState.UNHEALTHY]
        assert "Cannot re-initialize CUDA" in said[0].trouble
        # And then it is, and the job runs
        row = workers.latest(Lane.GPU)
        assert (row.state, row.trouble) == (WorkerState.IDLE, None)
        assert worker.run_next().startswith(job.id)
        worker.close()

    def test_a_start_that_ended_without_a_word_is_told_until_one_succeeds(self, settings, workers):
        # Given a worker that was killed while it started, as by a kernel without memory
        workers.register("wrk_dead", Lane.GPU, "host", 1, heartbeat_seconds=5)
        said = []

        def make_generator():
            said.append(workers.trouble(Lane.GPU))
            return ScriptedGenerator(paint), demo_report()

        worker = GpuWorker(settings, make_generator)
        worker.start()
        assert "ended without a word" in said[0]
        assert workers.trouble(Lane.GPU) is None
        worker.close()

    def test_a_shutdown_ends_the_wait(self, settings, workers):
        def make_generator():
            worker._shutdown.ask()
            raise self.ERROR

        # When a worker is asked to end while it waits for a better time
        worker = GpuWorker(settings, make_generator, retry_seconds=3600)
        with pytest.raises(EngineFailed):
            worker.start()
        # Then it says goodbye at once
        assert workers.trouble(Lane.GPU) is None


class TestLoadingAhead:
    def test_the_default_generate_model_makes_the_worker_ready_and_the_others_follow_between_jobs(
        self, start, workers, jobs
    ):
        generator = WarmedGenerator()
        # When a worker starts
        worker = start(generator)
        # Then it is ready with one model
        assert generator.loaded == ["demo"]
        assert workers.latest(Lane.GPU).state is WorkerState.IDLE
        # And a job that waits goes before the next model
        job = jobs.add(new_job(), 10)
        assert worker.run_next().startswith(job.id)
        assert generator.loaded == ["demo"]
        assert worker.run_next() == "loaded demo-kontext"
        assert worker.run_next() == "nothing to do"

    def test_it_asks_for_a_turn_to_load_more_without_any_job(self, start, broker_url):
        with redis.Redis.from_url(redis_url(broker_url)) as broker:
            broker.flushall()
            start(WarmedGenerator())
            wait_for(lambda: queue_depth(broker, Lane.GPU) == 1, "the bell rang")

    def test_a_job_that_comes_while_weights_are_read_goes_first(self, start, jobs):
        # Given a worker that reads its second model when a job comes
        def on_warm(model, listener):
            if model == "demo-kontext" and not submitted:
                submitted.append(jobs.add(new_job(), 10))
            listener(HALF)

        submitted = []
        worker = start(WarmedGenerator(on_warm))
        # Then reading stops, the job runs, and the model comes after it
        assert worker.run_next() == "stopped loading demo-kontext: something else comes first"
        assert worker.run_next().startswith(submitted[0].id)
        assert worker.run_next() == "loaded demo-kontext"

    @pytest.mark.parametrize("error", [ModelUnavailable("no weights"), RuntimeError("CUDA error: x"), MemoryError()])
    def test_a_model_that_cannot_be_loaded_stops_neither_the_worker_nor_the_next_one(self, start, workers, error):
        def on_warm(model, _listener):
            if model == "demo":
                raise error

        generator = WarmedGenerator(on_warm)
        worker = start(generator)
        assert workers.latest(Lane.GPU).state is WorkerState.IDLE
        assert worker.run_next() == "loaded demo-kontext"
        assert generator.tried == ["demo", "demo-kontext"]

    @pytest.mark.parametrize(
        ("error", "tries"), [(ModelUnavailable("no weights"), 0), (RuntimeError("x"), 1), (DeviceLost("x"), 1)]
    )
    def test_after_an_error_of_the_device_it_is_tried_out_before_a_job_is_claimed(self, start, error, tries):
        def on_warm(_model, _listener):
            raise error

        generator = WarmedGenerator(on_warm)
        painted = []
        generator._script = lambda context: painted.append(context)
        start(generator).run_next()
        assert painted == [None] * tries

    def test_progress_is_in_redis_while_it_is_made(self, start, broker_url):
        seen, channel = [], ProgressChannel(broker_url)

        def on_warm(_model, listener):
            for done in (1, 2):
                listener(HALF.model_copy(update={"done_bytes": done}))
                seen.append(channel.loading())

        start(WarmedGenerator(on_warm))
        channel.close()
        assert seen == [HALF, None]

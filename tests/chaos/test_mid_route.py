"""Jobs on their way through two lanes, while workers of both are killed: every picture is there once, by its maker."""

import random
import time
from contextlib import suppress

import httpx2
import psutil
import pytest

from cli.client import FluxImageClient, FluxImageError
from shared.db.audit import audit
from shared.db.engine import Database
from shared.domain.job import MAX_CRASHES
from shared.domain.status import TERMINAL_STATUSES, JobStatus
from tests.language_model import serving_language_model
from tests.space.harness import SpaceServer
from tests.stack import RunningStack, wait_for

JOBS = 15
KILLS_PER_LANE = MAX_CRASHES - 1  # one more could put away a job that was hit each time
SEED = 20261122
APPS = {"gpu": "worker.app", "remote": "worker.remote_app"}
SMALL = {"width": 256, "height": 256, "num_inference_steps": 2, "model": "demo"}
SHAPES = (
    {"generator": "merge", "num_images": 2},
    {"generator": "fallback", "num_images": 1, "enhance": True},
    {"generator": "remote", "num_images": 1, "model": None},
    {"generator": "merge", "num_images": 3, "enhance": True},
    {"generator": "local", "num_images": 1, "enhance": True},
)


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A Space and a language model, each in its own right a real server on loopback."""
    with SpaceServer(tmp_path_factory.mktemp("space")) as spaces, serving_language_model() as language_model:
        yield {
            "FLUX_REMOTE_SPACE": f"{spaces.url}/schnell",
            "FLUX_REMOTE_MODEL": "schnell",
            "FLUX_ENHANCER_URL": language_model.url,
            "FLUX_ENHANCER_MODEL": "nemo",
            "FLUX_LEASE_SECONDS": "4",
            "FLUX_HEARTBEAT_SECONDS": "0.5",
            "FLUX_RECONCILE_INTERVAL_SECONDS": "0.5",
        }


def children(stack: RunningStack) -> dict[str, list[psutil.Process]]:
    """The workers' children of each lane, which hold the jobs."""
    found: dict[str, list[psutil.Process]] = {}
    for process in stack.family():
        try:
            words, parent = " ".join(process.cmdline()), process.ppid()
        except psutil.Error:  # it has just ended
            continue
        lane = next((lane for lane, app in APPS.items() if app in words), None)
        if lane is not None and parent != stack.process.pid:
            found.setdefault(lane, []).append(process)
    return found


def submit(stack: RunningStack, number: int) -> str:
    body = {"prompt": f"a red circle {number}", "seed": number, **SMALL, **SHAPES[number % len(SHAPES)]}
    asked = {name: value for name, value in body.items() if value is not None}
    answer = httpx2.post(f"{stack.url}/api/generate", json=asked, timeout=30)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def is_available(client: FluxImageClient, generator: str) -> bool:
    return next(item for item in client.models().generators if item.id == generator).available


@pytest.mark.timeout(600)
def test_every_route_ends_in_whole_result_sets_whoever_is_killed(tmp_path, outside):
    dice = random.Random(SEED)
    with RunningStack(tmp_path / "data", "--no-flower", env=outside) as stack, stack.client() as client:
        wait_for(lambda: stack.ready_state().get("remote_worker") == "idle", "the remote worker is there", 60)
        # Given jobs of every shape of route
        ids = [submit(stack, number) for number in range(JOBS)]
        # When workers of both lanes are killed while the jobs change lanes
        for lane in dice.sample(sorted(APPS), k=KILLS_PER_LANE * len(APPS), counts=[KILLS_PER_LANE] * len(APPS)):
            time.sleep(dice.uniform(0.5, 2.0))  # anywhere in a route; there is no signal for that from outside
            victims = wait_for(lambda lane=lane: children(stack).get(lane), f"the {lane} lane has a child", 60)
            with suppress(psutil.NoSuchProcess):
                dice.choice(victims).kill()

        def all_over() -> bool:
            try:
                return all(client.job(job_id).status in TERMINAL_STATUSES for job_id in ids)
            except (httpx2.TransportError, FluxImageError):
                return False

        wait_for(all_over, f"all jobs are over\n{stack.logs()}", seconds=300)
        # Then every job has all its pictures, each by who was to make it or took over
        for number, job_id in enumerate(ids):
            job, shape = client.job(job_id), SHAPES[number % len(SHAPES)]
            assert job.status is JobStatus.SUCCEEDED, (job.error, job.warnings)
            assert [image.seed for image in job.images] == [number + index for index in range(shape["num_images"])]
            if shape["generator"] == "merge" and not any("gave up" in warning for warning in job.warnings):
                assert {image.generator for image in job.images} == {"local", "remote"}
        # And no promise over the whole table and directory is broken
        database = Database(f"sqlite:///{stack.data_dir / 'flux-image.db'}")
        assert audit(database, stack.data_dir / "media") == []
        database.dispose()
        assert stack.stop() == 0


@pytest.mark.timeout(300)
def test_a_space_that_is_gone_is_taken_over_by_this_machine(tmp_path, outside):
    # Given a Space at whose address nobody answers
    env = {**outside, "FLUX_REMOTE_SPACE": "http://127.0.0.1:9", "FLUX_REMOTE_CONNECT_SECONDS": "2"}
    with RunningStack(tmp_path / "data", "--no-flower", env=env) as stack, stack.client() as client:
        # When pictures are shared out to both sides
        job = client.generate("a red circle", generator="merge", num_images=2, seed=3, **SMALL)
        done = client.wait(job.id, timeout_seconds=120)
        # Then this machine makes them all, and says why
        assert [(image.generator, image.seed) for image in done.images] == [("local", 3), ("local", 4)]
        assert "generator remote gave up" in done.warnings[0]
        # And the list of generators knows it by now
        wait_for(lambda: not is_available(client, "remote"), "the remote generator is known to be away")
        assert stack.stop() == 0

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from shared.db.workers import WorkerRepository, WorkerState
from shared.domain.job import Lane
from shared.settings import WorkerSettings
from worker.healthcheck import Health, check_health

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path):
    return WorkerSettings(database_url=f"sqlite:///{tmp_path / 'flux.db'}")  # the file of the `database` fixture


def give_sign_of_life(database, at, lane=Lane.GPU, owner="worker-1", heartbeat_seconds=5):
    workers = WorkerRepository(database, lambda: at)
    workers.register(owner, lane, "host", 4711, heartbeat_seconds=heartbeat_seconds)
    workers.beat(owner, WorkerState.BUSY)


def test_a_worker_that_just_beat_is_healthy(database, settings):
    # Given a sign of life just inside the limit
    give_sign_of_life(database, NOW - timedelta(seconds=14))
    # When the container asks
    health = check_health(settings, lambda: NOW)
    # Then it is told that all is well, and what the worker does
    assert health == Health(True, "worker worker-1 is busy, last sign of life 14.0 s ago")


def test_a_silent_worker_is_unhealthy(database, settings):
    give_sign_of_life(database, NOW - timedelta(seconds=15))
    assert check_health(settings, lambda: NOW) == Health(
        False, "worker worker-1 stopped, or has been silent for 15 s or more"
    )


@pytest.mark.parametrize(("heartbeat_seconds", "limit"), [(0.1, 15), (5, 15), (20, 60)])
def test_how_long_a_worker_may_be_silent_depends_on_its_own_heartbeat(database, settings, heartbeat_seconds, limit):
    # Given workers that were last heard of just inside their limit, and just at it
    for owner, age in (("late", limit), ("in-time", limit - 1)):
        give_sign_of_life(database, NOW - timedelta(seconds=age), owner=owner, heartbeat_seconds=heartbeat_seconds)
    workers = WorkerRepository(database, lambda: NOW)
    # Then three heartbeats, and 15 seconds at least, are the limit
    assert workers.get("late").is_gone(NOW)
    assert not workers.get("in-time").is_gone(NOW)
    assert check_health(settings, lambda: NOW).healthy


def test_one_that_left_does_not_stand_for_one_that_works(database, settings):
    # Given a worker that beat a moment ago, and another that has left since
    give_sign_of_life(database, NOW - timedelta(seconds=3), owner="works")
    give_sign_of_life(database, NOW, owner="left")
    WorkerRepository(database, lambda: NOW).leave("left")
    # Then the lane is served
    assert check_health(settings, lambda: NOW).healthy


def test_a_worker_that_said_goodbye_is_unhealthy(database, settings):
    give_sign_of_life(database, NOW)
    WorkerRepository(database, lambda: NOW).leave("worker-1")
    assert not check_health(settings, lambda: NOW).healthy


def test_a_worker_that_fails_its_self_test_is_unhealthy(database, settings):
    give_sign_of_life(database, NOW)
    WorkerRepository(database, lambda: NOW).beat("worker-1", WorkerState.UNHEALTHY, "device: lost")
    health = check_health(settings, lambda: NOW)
    assert not health.healthy
    assert health.reason.endswith("unhealthy, last sign of life 0.0 s ago; device: lost")


def test_the_newest_worker_counts(database, settings):
    give_sign_of_life(database, NOW - timedelta(hours=1), owner="dead")
    give_sign_of_life(database, NOW, owner="alive")
    assert check_health(settings, lambda: NOW).healthy


def test_a_worker_of_another_lane_does_not_count(database, settings):
    give_sign_of_life(database, NOW, lane=Lane.REMOTE)
    assert check_health(settings, lambda: NOW) == Health(False, "no GPU worker has started yet")


def test_the_remote_lane_is_judged_on_request(database, settings):
    give_sign_of_life(database, NOW, lane=Lane.REMOTE)
    assert check_health(settings, lambda: NOW, Lane.REMOTE).healthy


def test_a_database_without_schema_is_unhealthy_in_words(settings):
    health = check_health(settings, lambda: NOW)
    assert not health.healthy
    assert health.reason.startswith("the database cannot be read: no such table")


def test_the_module_runs_as_a_command_and_imports_no_torch(database, tmp_path):
    # Given a live worker and a Python that refuses torch
    give_sign_of_life(database, datetime.now(UTC))
    program = (
        "import runpy, sys; sys.modules['torch'] = sys.modules['celery'] = None; "
        "runpy.run_module('worker.healthcheck', run_name='__main__')"
    )
    # When it runs as in a container
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"FLUX_DATABASE_URL": f"sqlite:///{tmp_path / 'flux.db'}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    # Then
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("healthy: worker worker-1 is busy")

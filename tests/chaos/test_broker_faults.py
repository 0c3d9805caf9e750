"""The broker down, frozen, wiped, full, cut off, flooded; Flower killed and its buttons pressed."""

import json
import os
import signal
import threading
import time
from contextlib import nullcontext

import psutil
import pytest
import redis

from shared.broker.app import make_celery, make_ringing_celery
from shared.broker.names import QUEUES
from shared.broker.publish import publish_job
from shared.domain.job import Lane
from shared.domain.params import JobKind
from shared.domain.status import JobStatus
from tests.chaos.nemesis import supervised
from tests.chaos.rig import PATIENCE_SECONDS, Process
from tests.stack import wait_for

pytestmark = pytest.mark.timeout(400)

QUEUE = QUEUES[Lane.GPU]


def frozen(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "it is frozen")


def test_submits_do_not_wait_for_a_broker_that_is_down(rig):
    # Given no broker
    rig.kill_broker()
    # When jobs are submitted
    jobs = rig.submit(5)
    # Then they were accepted all the same, and run once it is back
    assert {rig.job(job_id).status for job_id in jobs} == {JobStatus.QUEUED}
    rig.start_broker()
    assert rig.settle().is_clean


def test_submits_do_not_wait_for_a_frozen_broker(rig):
    # Given a broker that takes connections and answers nothing
    frozen(rig.broker_pid)
    # When more jobs are submitted than rings can time out meanwhile
    began = time.monotonic()
    rig.submit(5)
    took = time.monotonic() - began
    os.kill(rig.broker_pid, signal.SIGCONT)
    # Then the answers came sooner than one ring's limit of 2 s for each
    assert took < 5 * 2
    assert rig.settle().is_clean


def test_a_frozen_broker_does_not_stop_the_running_job(rig):
    with rig.job_kept_at("denoising") as job_id:
        frozen(rig.broker_pid)
    rig.wait_for_status(job_id, JobStatus.SUCCEEDED)
    os.kill(rig.broker_pid, signal.SIGCONT)
    rig.submit(2)
    assert rig.settle().is_clean
    assert rig.job(job_id).attempt == 1


@pytest.mark.parametrize("moment", ["idle", "busy"])
def test_a_wiped_broker_loses_no_job(rig, moment):
    with rig.redis() as broker, rig.job_kept_at("denoising") if moment == "busy" else nullcontext():
        rig.submit(3 if moment == "busy" else 0)
        broker.flushall()
    rig.submit(2)
    assert rig.settle().is_clean


def test_a_broker_killed_without_persistence_loses_no_job(rig):
    # Given a running job and ten queued ones
    with rig.job_kept_at("denoising") as running:
        rig.submit(10)
        # When the broker is killed and comes back empty
        rig.kill_broker()
        rig.start_broker()
    # Then all of them are done
    assert rig.settle().is_clean
    assert rig.job(running).attempt == 1


def test_a_broker_with_a_torn_append_only_file_comes_back(rig):
    # Given a broker that keeps a log, killed while doorbells wait in it
    rig.kill_broker()
    rig.start_broker(appendonly="yes", appendfsync="always")
    with rig.job_kept_at("denoising"):
        rig.submit(6)
        rig.kill_broker()
    # When the end of that log is cut off
    log = max((rig.data_dir / "valkey").rglob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    os.truncate(log, max(0, log.stat().st_size - 7))
    rig.start_broker(appendonly="yes", appendfsync="always")
    # Then it loads what is left, and all jobs are done
    assert rig.settle().is_clean
    rig.kill_broker()
    rig.start_broker()


def test_a_full_broker_loses_no_job(rig):
    # Given a running job, and a broker that refuses every write
    with rig.redis() as broker, rig.job_kept_at("denoising"):
        broker.config_set("maxmemory", "1")
        try:
            with pytest.raises(redis.OutOfMemoryError):
                broker.set("x", "y")
            # When jobs come, and the worker is started anew meanwhile and meets the full broker
            rig.submit(5)
            rig.worker.end()
            rig.worker.start()
            wait_for(
                lambda: not rig.worker.is_alive or "used memory >" in rig.worker.log.read_text(),
                "the worker meets it",
                PATIENCE_SECONDS,
            )
        finally:
            broker.config_set("maxmemory", "0")
    # Then, with room again and a supervisor that starts what ended, all jobs are done
    with supervised(rig):
        assert rig.settle().is_clean


def test_a_storm_of_cut_connections_loses_and_doubles_nothing(rig):
    # Given a stream of jobs
    client = threading.Thread(target=lambda: rig.submit(25, num_inference_steps=4))
    client.start()
    # When every connection is cut ten times a second meanwhile
    with rig.redis() as broker:
        while client.is_alive():
            for kind in ("normal", "pubsub"):
                broker.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            time.sleep(0.1)
    # Then each is done once
    assert rig.settle().is_clean


def test_duplicates_and_strangers_at_the_door_are_no_jobs(rig):
    # Given a running job
    app = make_ringing_celery(rig.broker_url)
    strange = (("no.such.task", [1]), ("generate", []), ("generate", ["a", "b", {}]), ("fill", [None]))
    with rig.job_kept_at("denoising") as job_id:
        # When it is rung for a hundred times, and for jobs and tasks that nobody knows
        for _ in range(100):
            publish_job(app, job_id, JobKind.GENERATE, Lane.GPU)
        publish_job(app, "job_unknown", JobKind.EDIT, Lane.GPU)
        for name, arguments in strange:
            app.send_task(name, args=arguments, queue=QUEUE, retry=False, ignore_result=True)
    app.close()
    # Then it is done once, the worker lives on, and takes the next job
    rig.submit(2)
    child = rig.child()
    assert rig.settle().is_clean
    assert rig.job(job_id).attempt == 1
    wait_for(lambda: queue_length(rig) == 0, "every ring is answered", PATIENCE_SECONDS)
    assert rig.child() == child


@pytest.mark.parametrize(
    "message",
    [b"garbage", b"{}", b"[]", json.dumps({"body": "!", "headers": {}, "properties": {}}).encode()],
    ids=["no JSON", "empty", "a list", "no body"],
)
def test_garbage_in_the_queue_stops_nobody(rig, message):
    # Given a message that no Celery wrote
    with rig.redis() as broker:
        broker.lpush(QUEUE, message)
    # Then jobs are done all the same, at worst by a worker that a supervisor starts again
    with supervised(rig):
        rig.submit(2)
        assert rig.settle().is_clean


def test_a_visibility_timeout_shorter_than_the_job_runs_it_once(rig):
    # Given doorbells that another program hands out again while the job still runs
    app = make_celery(rig.broker_url)
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "visibility_timeout": 0}
    with rig.job_kept_at("denoising") as job_id, app.connection_for_write() as connection:
        with connection.channel() as channel, rig.redis() as broker:
            broker.delete("unacked_mutex")  # kombu keeps it for minutes when a worker was cut off while it had it
            channel.qos.restore_visible(num=None, interval=1)
        wait_for(lambda: queue_length(rig) > 0, "it is handed out again", PATIENCE_SECONDS)
    app.close()
    # Then the second delivery finds nothing to do
    assert rig.settle().is_clean
    assert rig.job(job_id).attempt == 1


def test_a_revoked_doorbell_does_not_cancel_its_job(rig):
    # Given doorbells that wait, because the worker is frozen
    frozen(rig.worker.pid)
    jobs = rig.submit(4)
    wait_for(lambda: queue_length(rig) >= 3, "doorbells wait", PATIENCE_SECONDS)
    with rig.redis() as broker:
        waiting = [json.loads(message)["headers"]["id"] for message in broker.lrange(QUEUE, 0, -1)]
    # When each is revoked, which is what Flower's button does, and the worker goes on, and is started anew
    app = make_celery(rig.broker_url)
    app.control.revoke(waiting, terminate=True)
    app.close()
    rig.worker.signal(signal.SIGCONT)
    wait_for(lambda: queue_length(rig) == 0, "the worker has read them", PATIENCE_SECONDS)
    # Then the table decides: all jobs are done
    assert rig.settle().is_clean
    assert {rig.job(job_id).status for job_id in jobs} == {JobStatus.SUCCEEDED}


def test_flower_comes_and_goes_and_jobs_do_not_care(rig):
    command = (*rig.worker.argv[:3], "-A", "api.flower", "flower", "--address=127.0.0.1", "--port=0", "--read_only")
    flower = Process(command, rig.worker.env, rig.data_dir / "flower.log")
    flower.start()
    wait_for(lambda: "Connected to" in flower.log.read_text(), f"Flower is up {flower.log}", PATIENCE_SECONDS)
    rig.submit(3)
    flower.kill()
    rig.submit(3)
    assert rig.settle().is_clean


def queue_length(rig):
    with rig.redis() as broker:
        return broker.llen(QUEUE)

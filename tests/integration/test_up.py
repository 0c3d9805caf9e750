"""`flux-image up`: one per data directory, parts restarted, nothing orphaned, nothing lost."""

import signal
import subprocess
import sys
import urllib.request

import httpx2
import psutil
import pytest
import redis

from shared.domain.status import JobStatus
from tests.stack import RunningStack, wait_for

LONG = {"num_inference_steps": 30, "width": 512, "height": 512}


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def test_a_second_up_on_the_same_data_says_who_holds_it(stack):
    command = [sys.executable, "-m", "cli", "up", "--data-dir", str(stack.data_dir), "--port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert second.returncode == 3
    assert f"in use by `flux-image up` with pid {stack.process.pid}" in second.stderr


def test_a_taken_port_is_refused_in_words(stack, data_dir):
    port = stack.url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "cli", "up", "--data-dir", str(data_dir), "--port", port]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert second.returncode == 3
    assert f"Cannot listen on 127.0.0.1:{port}" in second.stderr


def test_the_table_names_urls_and_default_models(stack):
    output = wait_for(lambda: "is up" in stack.read_output() and stack.read_output(), "the table is printed")
    assert stack.url in output
    assert "demo-kontext" in output


def test_flower_is_read_only_and_on_loopback(stack):
    flower = wait_for(lambda: stack.part("flower"), "Flower is there")[0]

    def listening_sockets():
        return [item.laddr for item in flower.net_connections() if item.status == psutil.CONN_LISTEN]

    listening = wait_for(listening_sockets, "Flower listens", 60)
    assert {address.ip for address in listening} == {"127.0.0.1"}
    url = f"http://127.0.0.1:{listening[0].port}"
    with urllib.request.urlopen(f"{url}/healthcheck", timeout=10) as answer:
        assert answer.status == 200
    request = urllib.request.Request(f"{url}/api/worker/shutdown/gpu@x", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    refused.value.close()
    assert refused.value.code in (401, 403)


def test_jobs_survive_the_death_of_every_part(data_dir):
    with RunningStack(data_dir, "--no-flower") as stack, stack.client() as client:
        # Given a running job and a queued one
        running, queued = client.generate("a red circle", seed=1, **LONG), client.generate("a blue square", seed=2)
        wait_for(lambda: client.job(running.id).progress.step > 0, "the job is denoising", seconds=60)
        # When the worker's child is killed
        stack.worker_child().kill()
        # Then it is run again by a new child, as attempt 2
        wait_for(lambda: client.job(running.id).attempt == 2, "the job is claimed again", seconds=60)
        # When the API and the broker are killed too
        for process in [stack.part(name)[0] for name in ("cli.host.broker", "valkey-server", "api.serve")]:
            process.kill()
        # Then both jobs are done in the end, and their pictures are there
        stack.wait_until_ready()
        for job in (running, queued):
            done = client.wait(job.id, timeout_seconds=120)
            assert len(client.download(done.images[0])) == done.images[0].size_bytes
        assert stack.stop() == 0


def test_sigterm_hands_the_running_job_back_and_the_next_up_finishes_it(data_dir):
    with RunningStack(data_dir, "--no-flower") as stack, stack.client() as client:
        job = client.generate("a red circle", seed=1, **LONG)
        wait_for(lambda: client.job(job.id).progress.step > 0, "the job is denoising", seconds=60)
        assert stack.stop() == 0
    with RunningStack(data_dir, "--no-flower") as stack, stack.client() as client:
        done = client.wait(job.id, timeout_seconds=120)
        assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 2)


def test_ctrl_c_stops_everything(data_dir):
    with RunningStack(data_dir) as stack:
        assert stack.stop(signal.SIGINT) == 0


def test_a_killed_up_leaves_no_orphan_and_the_next_one_starts(data_dir):
    # Given a stack whose supervisor and broker wrapper are killed at once, so that Valkey itself is left behind
    with RunningStack(data_dir, "--no-flower") as stack:
        family = stack.family()
        valkey = stack.part("valkey-server")[0]
        stack.part("cli.host.broker")[0].kill()
        stack.process.kill()
        stack.process.wait()
        _, alive = psutil.wait_procs([process for process in family if process.pid != valkey.pid], timeout=60)
        assert not alive
        assert valkey.is_running()
    # When the next one starts on the same data, then it stops the orphan and works
    with RunningStack(data_dir, "--no-flower") as stack, stack.client() as client:
        psutil.wait_procs([valkey], timeout=20)
        assert not valkey.is_running()
        client.wait(client.generate("a red circle").id, timeout_seconds=60)


def test_a_given_broker_is_used_instead_of_the_embedded_one(stack, data_dir):
    # Given the broker of another stack
    url = f"unix://{stack.data_dir}/run/valkey.sock"
    with RunningStack(data_dir, "--no-flower", env={"REDIS_URL": f"{url}?db=1"}) as other, other.client() as client:
        # Then no broker is started, and jobs run
        assert other.part("valkey-server") == []
        client.wait(client.generate("a red circle").id, timeout_seconds=60)
        with redis.Redis.from_url(f"{url}?db=1") as broker:
            assert broker.exists("_kombu.binding.gpu")


def test_a_data_dir_with_a_long_path_works(tmp_path):
    # Given a path longer than a Unix socket may have
    data_dir = tmp_path / ("long-" * 30)
    with RunningStack(data_dir, "--no-flower") as stack, stack.client() as client:
        client.wait(client.generate("a red circle").id, timeout_seconds=60)


def test_a_device_that_is_not_there_is_told_to_whoever_asks(data_dir):
    # Given a worker that is to use a card where there is none
    stack = RunningStack(data_dir, "--no-flower", env={"FLUX_DEVICE": "cuda"})
    stack.start()
    try:
        # Then readiness, `up` and a submit say so
        reason = "torch sees no CUDA device"
        wait_for(lambda: reason in str(stack.ready_state().get("worker")), "the worker's row says why", seconds=90)
        wait_for(lambda: reason in stack.read_output(), "up says so", seconds=30)
        refused = httpx2.post(f"{stack.url}/api/generate", json={"prompt": "a red circle"}, trust_env=False)
        assert refused.status_code == 503
        assert reason in refused.json()["error"]["message"]
    finally:
        stack.close()


def test_a_wrong_model_setting_stops_the_worker_in_words(data_dir):
    stack = RunningStack(data_dir, "--no-flower", env={"FLUX_MODEL": "nosuchmodel"})
    stack.start()
    log = data_dir / "logs" / "worker.log"
    wait_for(
        lambda: log.exists() and "There is no model 'nosuchmodel'" in log.read_text(), "the log says why", seconds=60
    )
    wait_for(lambda: "worker ended with code 1" in stack.read_output(), "up says so", seconds=60)
    stack.close()

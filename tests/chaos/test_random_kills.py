"""Kill the parts of a working stack at random; then nothing accepted may be lost, doubled or damaged."""

import random
import time
from contextlib import suppress

import httpx2
import psutil
import pytest

from cli.client import FluxImageError
from shared.db.audit import audit
from shared.db.engine import Database
from shared.domain.status import TERMINAL_STATUSES, JobStatus
from tests.stack import RunningStack, wait_for

JOBS = 40
KILLS = 8
SEED = 20261121

# Quick signs of life, so that a silent worker is noticed within seconds.
ENV = {"FLUX_LEASE_SECONDS": "4", "FLUX_HEARTBEAT_SECONDS": "0.5", "FLUX_RECONCILE_INTERVAL_SECONDS": "0.5"}


def victims(stack: RunningStack) -> dict[str, list[psutil.Process]]:
    """What can be killed right now, by name."""
    found: dict[str, list[psutil.Process]] = {}
    for process in stack.family():
        try:
            words = " ".join(process.cmdline())
            parent = process.parent()
        except psutil.Error:
            continue
        if "worker.app" in words:
            is_child = parent is not None and parent.pid != stack.process.pid
            found.setdefault("worker child" if is_child else "worker parent", []).append(process)
        elif "api.serve" in words:
            found.setdefault("api", []).append(process)
        elif "valkey-server" in words:
            found.setdefault("broker", []).append(process)
    return found


def submit(stack: RunningStack, number: int) -> str:
    """Submit until accepted, the way a careful script does: with a key, so that a lost answer doubles nothing."""
    body = {"prompt": f"a red circle {number}", "width": 128, "height": 128, "num_inference_steps": 6, "seed": number}
    while True:
        try:
            answer = httpx2.post(
                f"{stack.url}/api/generate",
                json={**body, "model": "demo"},
                headers={"Idempotency-Key": f"chaos-{number}"},
                timeout=10,
            )
        except httpx2.TransportError:
            time.sleep(0.1)  # the API is being restarted; there is no signal to wait for from outside
            continue
        assert answer.status_code in (200, 202), answer.text  # 200: asked again after it was done
        return answer.json()["id"]


@pytest.mark.timeout(900)
def test_every_accepted_job_ends_exactly_once(tmp_path):
    dice = random.Random(SEED)
    with RunningStack(tmp_path / "data", "--no-flower", env=ENV) as stack:
        # Given a stream of jobs, and a kill -9 after every few of them
        ids, killed = [], []
        for number in range(JOBS):
            ids.append(submit(stack, number))
            if number % (JOBS // KILLS) == 0:
                alive = victims(stack)
                name = dice.choice(sorted(alive))
                killed.append(name)
                for process in alive[name]:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
        # When the stack has come to rest
        stack.wait_until_ready()

        def all_over() -> bool:
            try:
                with stack.client() as client:
                    return all(client.job(job_id).status in TERMINAL_STATUSES for job_id in ids)
            except (httpx2.TransportError, FluxImageError):
                return False

        wait_for(all_over, f"all jobs are over; killed {killed}\n{stack.logs()}", seconds=300)
        # Then each accepted job is there once and succeeded, or is a stated worker crash
        assert len(set(ids)) == JOBS
        with stack.client() as client:
            jobs = [client.job(job_id) for job_id in ids]
        failed = [job for job in jobs if job.status is not JobStatus.SUCCEEDED]
        assert all(job.error is not None and job.error.code == "worker_crashed" for job in failed)
        assert len(set(killed)) >= 3, killed
        # And no promise over the whole table and directory is broken
        database = Database(f"sqlite:///{stack.data_dir / 'flux-image.db'}")
        assert audit(database, stack.data_dir / "media") == []
        database.dispose()
        assert stack.stop() == 0

"""Back up under load, restore elsewhere, go on where the backup was."""

import subprocess
import sys

from shared.domain.status import JobStatus
from tests.stack import RunningStack, wait_for


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "cli", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def test_a_backup_under_load_is_sound_and_the_restored_server_finishes_its_jobs(stack, client, tmp_path):
    # Given a server with finished, running and waiting jobs
    done = client.wait(client.generate("a red circle", seed=1).id)
    waiting = [client.generate(f"a blue square {number}", seed=number, num_inference_steps=20) for number in range(12)]
    wait_for(lambda: any(client.job(job.id).status is JobStatus.RUNNING for job in waiting), "a job runs")
    # When it is backed up meanwhile, and restored to another place
    backed_up = command("backup", tmp_path / "backup", "--data-dir", stack.data_dir)
    restored = command("restore", tmp_path / "backup", "--data-dir", tmp_path / "other")
    for job in waiting:
        client.cancel(job.id)
    # Then both copies are sound
    assert (backed_up.returncode, restored.returncode) == (0, 0), backed_up.stderr + restored.stderr
    assert "0 problems" in backed_up.stdout
    # And a server on the copy has the picture, and finishes what was waiting
    with RunningStack(tmp_path / "other", "--no-flower") as other, other.client() as copy:
        assert copy.download(copy.job(done.id).images[0]) == client.download(done.images[0])
        finished = [copy.wait(job.id, timeout_seconds=120) for job in waiting]
        assert {job.status for job in finished} == {JobStatus.SUCCEEDED}


def test_a_backup_never_overwrites_anything(stack, tmp_path):
    (tmp_path / "precious").write_text("x")
    refused = command("backup", tmp_path, "--data-dir", stack.data_dir)
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr


def test_a_restore_never_overwrites_a_running_or_filled_data_dir(stack, tmp_path):
    assert command("backup", tmp_path / "backup", "--data-dir", stack.data_dir).returncode == 0
    running = command("restore", tmp_path / "backup", "--data-dir", stack.data_dir)
    assert (running.returncode, "in use" in running.stderr) == (3, True)
    assert command("restore", tmp_path / "backup", "--data-dir", tmp_path / "new").returncode == 0
    filled = command("restore", tmp_path / "backup", "--data-dir", tmp_path / "new")
    assert (filled.returncode, "has a database already" in filled.stderr) == (1, True)
    assert "is no backup" in command("restore", tmp_path, "--data-dir", tmp_path / "third").stderr

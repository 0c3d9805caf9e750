"""`examples/submit_batch.py` while the API dies under it, and after it died itself: one picture a prompt, no more."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from shared.db.audit import audit
from shared.db.models import JobRow
from shared.domain.status import JobStatus
from tests.chaos.rig import PATIENCE_SECONDS, Rig, running_rig
from tests.stack import wait_for

pytestmark = pytest.mark.timeout(400)
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "submit_batch.py"
OUTAGE_SECONDS = 1.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with running_rig(tmp_path / "data") as rig:
        yield rig


def start(rig: Rig, folder: Path, count: int) -> subprocess.Popen[str]:
    prompts = folder / "prompts.txt"
    prompts.write_text("".join(f"a red circle {number}\n" for number in range(count)))
    command = [sys.executable, str(EXAMPLE), str(prompts), str(folder / "pictures"), "--url", rig.url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(rig: Rig, batch: subprocess.Popen[str]) -> str:
    output, _ = batch.communicate(timeout=PATIENCE_SECONDS)
    assert batch.returncode == 0, f"{output}\n{rig.logs()}"
    return output


def count_jobs(rig: Rig) -> int:
    with rig.database.read() as connection:
        return connection.scalar(select(func.count()).select_from(JobRow)) or 0


def pictures(folder: Path) -> set[str]:
    return {path.name for path in (folder / "pictures").glob("job_*.png")}


def assert_each_prompt_has_one_picture(rig: Rig, folder: Path, count: int) -> None:
    with rig.database.read() as connection:
        rows = connection.execute(select(JobRow.id, JobRow.status, JobRow.params)).all()
    assert sorted(row.params["prompt"] for row in rows) == sorted(f"a red circle {number}" for number in range(count))
    assert {row.status for row in rows} == {JobStatus.SUCCEEDED}
    assert pictures(folder) == {f"{row.id}.png" for row in rows}
    assert audit(rig.database, rig.data_dir / "media") == []


def api_away(rig: Rig) -> None:
    rig.api.kill()
    threading.Event().wait(OUTAGE_SECONDS)
    rig.api.start()


def test_two_hundred_pictures_are_saved_although_the_api_is_killed_for_a_second(rig: Rig, tmp_path: Path):
    # Given a batch of 200 prompts that is being submitted
    batch = start(rig, tmp_path, 200)
    wait_for(lambda: count_jobs(rig) >= 60, "submits go on", PATIENCE_SECONDS)
    # When the API is killed for a second, and once more while pictures are saved
    api_away(rig)
    wait_for(lambda: len(pictures(tmp_path)) >= 20, lambda: f"pictures are saved\n{rig.logs()}", PATIENCE_SECONDS)
    api_away(rig)
    # Then the batch ends well
    ended(rig, batch)
    assert_each_prompt_has_one_picture(rig, tmp_path, 200)


def test_the_same_command_again_goes_on_where_a_killed_one_stopped(rig: Rig, tmp_path: Path):
    # Given a batch that was killed while it submitted
    batch = start(rig, tmp_path, 40)
    wait_for(lambda: count_jobs(rig) >= 10, "submits go on", PATIENCE_SECONDS)
    batch.kill()
    batch.communicate()
    # And a note of what was submitted that lost its last line, as in a crash of the machine
    notes = tmp_path / "pictures" / "jobs.jsonl"
    notes.write_text(notes.read_text()[:-20])
    # When the same command is given again, and a third time
    ended(rig, start(rig, tmp_path, 40))
    assert_each_prompt_has_one_picture(rig, tmp_path, 40)
    again = ended(rig, start(rig, tmp_path, 40))
    # Then nothing is made anew
    assert len(again.splitlines()) == 40
    assert_each_prompt_has_one_picture(rig, tmp_path, 40)
    assert sum("job" in json.loads(line) for line in notes.read_text().splitlines() if line.endswith("}")) == 40

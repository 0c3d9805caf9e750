"""Every command ends in words and an exit code, whatever goes wrong."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.host.backup import DATABASE_FILE, copy_database
from cli.main import app
from shared.db.engine import open_database
from shared.db.jobs import JobRepository
from shared.db.prepare import prepare_database
from shared.settings import CoreSettings
from tests.builders import new_job

COMMANDS = {
    "up": ["up"],
    "demo": ["demo"],
    "pull": ["pull", "schnell"],
    "doctor": ["doctor"],
    "backup": ["backup", "copy"],
    "restore": ["restore", "copy"],
    "migrate": ["migrate"],
}


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words, env=None, limit=None):
    return subprocess.run(
        [sys.executable, "-m", "cli", *map(str, words)],
        env={**os.environ, "TMPDIR": str(Path.cwd()), **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None,
    )


def test_every_command_is_tried_here():
    assert {command.callback.__name__ for command in app.registered_commands} == {*COMMANDS, "plan"}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
class TestSettings:
    def test_one_that_makes_no_sense_is_named(self, words, monkeypatch):
        monkeypatch.setenv("FLUX_LOG_JSON", "perhaps")
        ended = CliRunner().invoke(app, words)
        assert (ended.exit_code, ended.output.startswith("FLUX_LOG_JSON: ")) == (2, True), ended.output
        assert "Traceback" not in ended.output

    def test_a_file_that_is_no_text_is_named(self, words, here):
        (here / ".env").write_bytes(b"FLUX_PORT=1\n\xff\xfe")
        ended = CliRunner().invoke(app, words)
        assert ended.exit_code == 2
        assert f"The settings in {here / '.env'} are no UTF-8 text" in ended.output

    def test_a_file_that_cannot_be_read_is_named(self, words, here):
        (here / ".env").symlink_to("/proc/self/mem")  # a file whose first byte nobody may read, not even root
        ended = CliRunner().invoke(app, words)
        assert ended.exit_code == 2
        assert f"The settings in {here / '.env'} cannot be read" in ended.output


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FLUX_PORT", "abc"),
        ("FLUX_PORT", "70000"),
        ("FLUX_HOST", "http://x"),
        ("FLUX_CORS_ORIGINS", "*"),
        ("FLUX_LEASE_SECONDS", "-1"),
    ],
)
def test_up_refuses_every_parts_settings_before_it_starts_anything(variable, value, here, monkeypatch):
    monkeypatch.setenv(variable, value)
    ended = CliRunner().invoke(app, ["up", "--data-dir", str(here / "data")])
    assert (ended.exit_code, ended.output.startswith(f"{variable}: ")) == (2, True), ended.output
    assert not (here / "data").exists()


def test_a_wrong_option_is_a_usage_error():
    ended = CliRunner().invoke(app, ["up", "--port", "abc"])
    assert (ended.exit_code, "--port" in ended.output) == (2, True)


@pytest.mark.parametrize("words", [["up"], ["migrate"], ["demo"]])
def test_a_data_directory_that_cannot_be_made_is_told(words, here):
    (here / "file").write_text("")
    ended = CliRunner().invoke(app, [*words, "--data-dir", str(here / "file" / "data")])
    assert ended.exit_code == 1
    assert f"{here / 'file'}" in ended.output
    assert "A part of this path is a file" in ended.output
    assert "Traceback" not in ended.output


def test_the_traceback_is_in_a_file_of_the_users_own(here):
    (here / "file").write_text("")
    ended = run("migrate", "--data-dir", here / "file" / "data")
    report = Path(ended.stderr.rpartition("The full report is in ")[2].strip().rstrip("."))
    assert "NotADirectoryError" in report.read_text()
    assert report.stat().st_mode & 0o777 == 0o600


def test_an_interrupted_command_ends_with_130(here):
    # Given a command that waits for the end of a file of settings, which is a pipe
    os.mkfifo(here / ".env")
    command = [sys.executable, "-m", "cli", "migrate", "--data-dir", str(here / "data")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with (here / ".env").open("w"):  # opens once the command reads it
        # When Ctrl+C comes
        process.send_signal(signal.SIGINT)
        # Then it ends without a traceback
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in output + errors) == (130, False)


def test_a_reader_who_has_enough_ends_the_command_quietly(here):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "cli", "plan", "--gpu-gib", "32"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.fixture
def data_dir(here):
    """A data directory with a job and a picture of some size that nobody knows."""
    settings = CoreSettings(_env_file=None, data_dir=here / "data")
    prepare_database(settings)
    database = open_database(settings.resolved_database_url)
    JobRepository(database).add(new_job(), 10)
    database.dispose()
    return settings.data_dir


class TestBackup:
    def test_a_full_disk_leaves_nothing_half_made(self, data_dir, here):
        ended = run("backup", here / "copy", "--data-dir", data_dir, limit=20_000)
        assert ended.returncode == 1
        assert ended.stderr.startswith("The backup failed, and nothing of it is left: ")
        assert not (here / "copy").exists()

    def test_a_folder_that_was_there_stays_empty(self, data_dir, here):
        (here / "copy").mkdir()
        assert run("backup", here / "copy", "--data-dir", data_dir, limit=20_000).returncode == 1
        assert list((here / "copy").iterdir()) == []

    def test_a_place_that_cannot_be_written_is_told(self, data_dir, here):
        ended = run("backup", "/proc/copy", "--data-dir", data_dir)
        assert (ended.returncode, "/proc/copy" in ended.stderr, "Traceback" in ended.stderr) == (1, True, False)

    def test_one_that_was_killed_is_no_backup(self, data_dir, here):
        # Given what a killed backup leaves: a copy without its name
        (here / "copy").mkdir()
        copy_database(data_dir / DATABASE_FILE, here / "copy" / "flux-image.db.partial")
        ended = run("restore", here / "copy", "--data-dir", here / "new")
        assert (ended.returncode, "is no backup" in ended.stderr) == (1, True)


class TestRestore:
    @pytest.fixture
    def copy(self, data_dir, here):
        assert run("backup", here / "copy", "--data-dir", data_dir).returncode == 0
        return here / "copy"

    def test_it_brings_back_what_was_there(self, copy, here):
        ended = run("restore", copy, "--data-dir", here / "new")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert {path.name for path in (here / "new").iterdir()} == {"flux-image.db", "media", "run"}

    def test_a_full_disk_leaves_nothing_half_made(self, copy, here):
        ended = run("restore", copy, "--data-dir", here / "new", limit=20_000)
        assert ended.returncode == 1
        assert ended.stderr.startswith("The restore failed, and nothing of it is left: ")
        assert {path.name for path in (here / "new").iterdir()} == {"run"}
        # And it works once there is room
        assert run("restore", copy, "--data-dir", here / "new").returncode == 0

    def test_a_place_that_cannot_be_written_is_told(self, copy):
        ended = run("restore", copy, "--data-dir", "/proc/new")
        assert (ended.returncode, "/proc/new" in ended.stderr, "Traceback" in ended.stderr) == (1, True, False)

    def test_pictures_without_a_database_are_not_mixed_with_others(self, copy, here):
        (here / "new" / "media").mkdir(parents=True)
        (here / "new" / "media" / "precious").write_text("x")
        ended = run("restore", copy, "--data-dir", here / "new")
        assert (ended.returncode, "has pictures already; move them away" in ended.stderr) == (1, True)
        assert [path.name for path in (here / "new" / "media").iterdir()] == ["precious"]

    def test_a_backup_on_a_disk_that_cannot_be_written_is_read(self, copy, here):
        # Given a folder mounted read-only, which not even root can write
        script = 'mount --bind -o ro "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
        command = [sys.executable, "-m", "cli", "restore", str(copy), "--data-dir", str(here / "new")]
        ended = subprocess.run(
            ["unshare", "--mount", "--map-root-user", "sh", "-c", script, str(copy), *command],
            capture_output=True,
            text=True,
            timeout=60,
        )
        if "unshare" in ended.stderr or "mount" in ended.stderr:
            pytest.skip(f"no mount namespace here: {ended.stderr.strip()}")
        assert (ended.returncode, ended.stderr) == (0, "")

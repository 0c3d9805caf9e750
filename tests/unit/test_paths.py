"""Paths as people write them: a home directory is known, nothing else is expanded, every name is kept."""

import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import redis
from pydantic import ValidationError
from rich.console import Console
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from cli.host.environment import part_environment
from cli.host.terminal import plain, visible
from cli.main import app
from shared.broker.urls import redis_url
from shared.db.engine import open_database
from shared.paths import absolute_sqlite_url, sqlite_url, user_path
from shared.settings import CoreSettings, HostSettings
from tests.surroundings import EVERYTHING


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """A home directory and a working directory of the test's own."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


class TestUserPath:
    def test_a_tilde_is_the_home_directory(self, home):
        assert user_path("~/x") == home / "x"

    def test_a_relative_path_starts_at_the_working_directory(self, tmp_path):
        assert user_path("x/y") == tmp_path / "here" / "x" / "y"

    @pytest.mark.parametrize("name", ["$HOME", "${HOME}", "a~", "*", "%41", EVERYTHING])
    def test_nothing_else_is_expanded(self, name, tmp_path):
        assert user_path(name) == tmp_path / "here" / name

    def test_a_tilde_of_nobody_is_refused_in_words(self):
        with pytest.raises(ValueError, match="home directory of '~nobody-here/x' is not known"):
            user_path("~nobody-here/x")

    def test_a_name_that_is_not_utf_8_is_refused_in_words(self):
        with pytest.raises(ValueError, match="is not UTF-8"):
            user_path("a\udcff")


class TestSettings:
    def test_the_data_directory_in_a_file_of_settings(self, home, tmp_path):
        (tmp_path / "here" / ".env").write_text("FLUX_DATA_DIR=~/x\n")
        assert CoreSettings().data_dir == home / "x"

    def test_another_file_of_settings(self, home, tmp_path):
        (tmp_path / "mine").write_text("FLUX_DATA_DIR=~/y\n")
        code = "from shared.settings import CoreSettings; print(CoreSettings().data_dir)"
        env = {"FLUX_ENV_FILE": str(tmp_path / "mine"), "HOME": str(home)}
        run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert run.stdout == f"{home}/y\n"

    def test_the_data_directory_as_an_option(self, home):
        run = CliRunner().invoke(app, ["migrate", "--data-dir=~/z"])
        assert run.exit_code == 0, run.output
        assert (home / "z" / "flux-image.db").is_file()
        assert not Path("~").exists()

    def test_the_home_of_nobody_is_a_wrong_option(self):
        run = CliRunner().invoke(app, ["migrate", "--data-dir=~nobody-here/x"])
        assert run.exit_code == 2
        assert "give the whole path" in " ".join(run.output.replace("│", "").split())

    def test_a_home_of_nobody_is_a_wrong_setting(self):
        with pytest.raises(ValidationError, match="give the whole path"):
            CoreSettings(_env_file=None, data_dir="~nobody-here/x")

    @pytest.mark.parametrize(
        ("given", "file"),
        [
            ("sqlite:///~/x.db", "home/x.db"),
            ("sqlite:///x%20y.db?timeout=2", "here/x y.db"),
            ("sqlite+pysqlite:///x.db", "here/x.db"),
        ],
    )
    def test_the_file_of_a_database_url_is_a_path_too(self, given, file, tmp_path):
        url = make_url(absolute_sqlite_url(given))
        assert (url.database, dict(url.query)) == (
            str(tmp_path / file),
            {"timeout": "2"} if "timeout" in given else {},
        )

    @pytest.mark.parametrize("given", ["sqlite://", "sqlite:///:memory:", "postgresql://h/~x"])
    def test_other_databases_stay_as_they_are(self, given):
        assert absolute_sqlite_url(given) == given


class TestUrls:
    def test_a_database_is_made_in_its_directory_whatever_that_is_called(self, tmp_path):
        file = tmp_path / EVERYTHING / "flux-image.db"
        database = open_database(sqlite_url(file))
        with database.write() as connection:
            connection.exec_driver_sql("CREATE TABLE x (y)")
        database.dispose()
        assert file.is_file()
        assert {path.name for path in tmp_path.iterdir()} == {"home", "here", EVERYTHING}

    @pytest.mark.parametrize("name", [EVERYTHING, "db=1", "virtual_host=2?x", "ü" * 20])
    def test_a_socket_is_found_whatever_its_directory_is_called(self, name):
        settings = CoreSettings(_env_file=None, data_dir=Path("/d") / name)
        client = redis.Redis.from_url(redis_url(settings.resolved_redis_url))
        assert client.connection_pool.connection_kwargs["path"] == f"/d/{name}/run/valkey.sock"

    def test_a_socket_fits_in_bytes(self):
        # Given names of 100 letters: one of them has more bytes than a socket's path may have
        sockets = [
            CoreSettings(_env_file=None, data_dir=Path("/d") / (letter * 80)).embedded_broker_socket for letter in "aü"
        ]
        assert sockets[0].is_relative_to("/d")
        assert not sockets[1].is_relative_to("/d")
        assert len(bytes(sockets[1])) <= 107

    @pytest.mark.parametrize("name", ["My Pictures", "it's", "ü", EVERYTHING])
    def test_compiled_code_is_kept_where_the_compiler_can_cope_with_the_path(self, name, home):
        settings = CoreSettings(_env_file=None, data_dir=Path("/d") / name)
        others = CoreSettings(_env_file=None, data_dir=Path("/e") / name)
        assert settings.compiled_code_dir.parent == home / ".cache"
        assert others.compiled_code_dir != settings.compiled_code_dir

    def test_compiled_code_is_kept_with_the_data_where_it_can_be(self, home):
        settings = CoreSettings(_env_file=None, data_dir=home / "flux-image")
        assert settings.compiled_code_dir == home / "flux-image" / "cache" / "inductor"

    def test_compiled_code_has_a_place_when_every_usual_one_is_odd(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/a b")
        monkeypatch.setattr("tempfile.gettempdir", lambda: "/t p")
        assert CoreSettings(_env_file=None, data_dir="/d e").compiled_code_dir.parent == Path("/tmp")

    def test_a_socket_fits_where_the_temp_directory_is_deep_too(self, monkeypatch):
        monkeypatch.setattr("tempfile.gettempdir", lambda: "/t" * 60)
        assert len(bytes(CoreSettings(_env_file=None, data_dir=Path("/d" * 60)).embedded_broker_socket)) <= 107


def test_parts_get_whole_paths_and_no_code_of_the_callers_folder(tmp_path, home):
    # Given relative paths of libraries
    given = {"HF_HOME": "~/hf", "TORCH_HOME": "t", "HF_HUB_CACHE": "$HOME/c", "XDG_CACHE_HOME": "", "PYTHONPATH": "p"}
    settings = HostSettings(_env_file=None, data_dir=tmp_path, host="::1", database_url="sqlite:///x.db")
    # When a part's environment is made
    made = part_environment(settings, given)
    # Then each is whole, as its library would have read it here
    here = tmp_path / "here"
    assert [made[name] for name in ("HF_HOME", "TORCH_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME")] == [
        str(home / "hf"),
        str(here / "t"),
        str(home / "c"),
        "",
    ]
    assert made["FLUX_ENV_FILE"] == str(here / ".env")
    assert made["FLUX_DATABASE_URL"] == f"sqlite:///{here}/x.db"
    assert (made["FLUX_HOST"], made["PYTHONSAFEPATH"]) == ("::1", "1")
    assert made["PYTHONPATH"].split(":")[0] == str(Path(__file__).resolve().parents[2])


def test_control_characters_of_a_name_do_not_reach_the_terminal():
    assert visible("a\x1b[31m\udcff\tü") == "a\\x1b[31m\\udcff\\tü"


def test_migrations_are_found_where_the_program_lies_in_an_odd_folder(tmp_path):
    # Given the program's code below a folder with a percent sign, which templates take for their own
    (tmp_path / "100%(x)s").mkdir()
    (tmp_path / "100%(x)s" / "shared").symlink_to(Path(__file__).resolve().parents[2] / "shared")
    code = "from shared.db.migrate import head_revision; print(head_revision() is not None)"
    env = {"PYTHONPATH": str(tmp_path / "100%(x)s"), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run([sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert run.stdout == "True\n", run.stderr


def test_what_others_wrote_is_no_markup():
    console = Console(file=StringIO(), width=100)
    console.print(plain("[red]a[/] \\[b]"))
    assert console.file.getvalue() == "[red]a[/] \\[b]\n"

"""Secrets are taken without what a clipboard adds, refused in words otherwise, and shown by nothing."""

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from cli.boundary import settings_words
from cli.main import app
from shared.secrets import public_url
from shared.settings import CoreSettings, EnhancerSettings, HubSettings, RemoteSettings

TOKENS = [
    (HubSettings, "HF_TOKEN", "hf_token"),
    (HubSettings, "HUGGINGFACE_HUB_TOKEN", "hf_token"),
    (HubSettings, "HUGGING_FACE_HUB_TOKEN", "hf_token"),
    (RemoteSettings, "FLUX_REMOTE_TOKEN", "remote_token"),
    (EnhancerSettings, "FLUX_ENHANCER_KEY", "enhancer_key"),
]
URLS = [
    (CoreSettings, "REDIS_URL", "redis_url", "redis://user:geheim@127.0.0.1:6379/0"),
    (CoreSettings, "FLUX_DATABASE_URL", "database_url", "postgresql://user:geheim@127.0.0.1:5432/flux"),
]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # away from anybody's .env
    for name in ("HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("owner", "variable", "field"), TOKENS)
class TestTokens:
    @pytest.mark.parametrize("typed", ["geheim\n", "\r\n geheim \t", "\u00a0geheim"])
    def test_what_surrounds_one_is_left_out(self, owner, variable, field, typed, monkeypatch):
        monkeypatch.setenv(variable, typed)
        assert getattr(owner(), field).get_secret_value() == "geheim"

    def test_blanks_alone_are_none(self, owner, variable, field, monkeypatch):
        monkeypatch.setenv(variable, " \n")
        assert getattr(owner(), field) is None

    @pytest.mark.parametrize("typed", ["geheim\ngeheim", "geheim\x07", "gehéim", "geheim geheim", "geheim\u200b"])
    def test_one_that_no_header_carries_is_refused_without_being_shown(
        self, owner, variable, field, typed, monkeypatch
    ):
        monkeypatch.setenv(variable, typed)
        with pytest.raises(ValidationError) as refusal:
            owner()
        words = settings_words(refusal.value)
        assert "copy it again" in words
        assert words.startswith(("HF_TOKEN: ", f"{variable}: "))
        for shown in (words, str(refusal.value), repr(refusal.value)):
            assert "geh" not in shown

    def test_the_settings_do_not_show_it(self, owner, variable, field, monkeypatch):
        monkeypatch.setenv(variable, "geheim")
        settings = owner()
        assert not any("geheim" in shown for shown in (repr(settings), str(settings), settings.model_dump_json()))


@pytest.mark.parametrize(("owner", "variable", "field", "url"), URLS)
class TestUrls:
    def test_what_surrounds_one_is_left_out(self, owner, variable, field, url, monkeypatch):
        monkeypatch.setenv(variable, f" {url}\n")
        assert getattr(owner(), field).get_secret_value() == url

    @pytest.mark.parametrize(
        "password", ["geheim\n", "geheim/x", "geheim#x", "geheim?x", "12#geheim", "12/geheim", "geheim\x1b"]
    )
    def test_a_password_that_breaks_it_is_refused_without_being_shown(
        self, owner, variable, field, url, password, monkeypatch
    ):
        monkeypatch.setenv(variable, url.replace("geheim", password))
        with pytest.raises(ValidationError) as refusal:
            owner()
        words = settings_words(refusal.value)
        assert words.startswith((f"{variable}: it ", f"{variable}: its "))
        assert not any("geheim" in shown for shown in (words, str(refusal.value), repr(refusal.value)))

    def test_the_settings_do_not_show_it(self, owner, variable, field, url, monkeypatch):
        monkeypatch.setenv(variable, url)
        settings = owner()
        assert not any("geheim" in shown for shown in (repr(settings), str(settings), settings.model_dump_json()))


def test_a_broker_of_another_kind_is_refused_in_words(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "amqp://user:geheim@127.0.0.1")
    with pytest.raises(ValidationError, match="amqp:// is no broker this server can use; it takes redis, rediss"):
        CoreSettings()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:geheim@h:1/0", "redis://***@h:1/0"),
        ("redis://user@h", "redis://***@h"),
        ("unix:///run/v.sock?db=1&password=geheim", "unix:///run/v.sock?db=1&password=***"),
        ("https://h/v1?API-Key=geheim&x=1", "https://h/v1?API-Key=***&x=1"),
        ("http://h:1/v1", "http://h:1/v1"),
        ("sqlite:////home/a@b/x.db", "sqlite:////home/a@b/x.db"),
    ],
)
def test_a_url_is_shown_without_what_is_secret(url, shown):
    assert public_url(url) == shown


@pytest.mark.parametrize("command", [["doctor"], ["up"], ["migrate"], ["pull", "schnell"], ["demo"]])
def test_no_command_shows_a_secret_that_it_refuses(command, monkeypatch):
    for _, variable, _ in TOKENS:
        monkeypatch.setenv(variable, "geheim\ngeheim")
    monkeypatch.setenv("REDIS_URL", "redis://:geheim/x@127.0.0.1")
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 2
    assert "geheim" not in run.output
    assert "Traceback" not in run.output
    assert "copy it again" in run.output or "percent form" in run.output

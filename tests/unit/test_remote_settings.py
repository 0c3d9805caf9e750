"""The settings of the Space, refused at a process's start where they make no sense."""

import pytest
from pydantic import ValidationError

from shared.settings import RemoteSettings


@pytest.fixture
def settings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # away from anybody's .env

    def make(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"FLUX_REMOTE_{name}", value)
        return RemoteSettings()

    return make


def test_without_a_space_there_is_none(settings):
    assert (settings().remote_space, settings().remote_spec) == (None, None)


@pytest.mark.parametrize(
    ("space", "model"),
    [
        ("black-forest-labs/FLUX.1-schnell", "schnell"),
        ("black-forest-labs/FLUX.1-dev", "dev"),
        ("black-forest-labs/FLUX.1-Kontext-Dev", "kontext"),
    ],
)
def test_the_public_spaces_tell_their_model_by_their_name(settings, space, model):
    assert settings(SPACE=space).remote_spec.model == model


def test_another_space_needs_to_be_told(settings):
    assert settings(SPACE="https://example.org/flux", MODEL="dev").remote_spec.model == "dev"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SPACE": "someone/flux"}, "FLUX_REMOTE_MODEL must say"),
        ({"SPACE": "someone/flux", "MODEL": "sdxxl"}, "FLUX_REMOTE_MODEL must say"),
        ({"SPACE": "flux", "MODEL": "dev"}, "neither a Space"),
        ({"SPACE": "http://example.org", "MODEL": "dev", "TOKEN": "hf_secret"}, "unencrypted"),
        ({"SPACE": "someone/flux", "MODEL": "dev", "CALL_SECONDS": "0"}, "greater than 0"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(settings, variables, words):
    with pytest.raises(ValidationError, match=words) as refusal:
        settings(**variables)
    assert "hf_secret" not in str(refusal.value)


def test_the_token_is_not_shown(settings):
    assert "hf_secret" not in repr(settings(SPACE="someone/flux", MODEL="dev", TOKEN="hf_secret"))

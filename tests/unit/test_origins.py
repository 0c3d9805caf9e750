"""Origins are compared with what browsers send, letter by letter: other spellings are read or refused."""

import pytest
from pydantic import ValidationError

from shared.settings import ApiSettings


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("http://localhost:5173/", ("http://localhost:5173",)),
        ("https://Example.org:443 , HTTP://a.example:80/", ("https://example.org", "http://a.example")),
        ("http://[::1]:8080", ("http://[::1]:8080",)),
        ("https://bücher.example", ("https://xn--bcher-kva.example",)),
        ("chrome-extension://abcdef", ("chrome-extension://abcdef",)),
        ("", ApiSettings.model_fields["cors_origins"].default),
    ],
)
def test_an_origin_becomes_what_a_browser_sends(given, origins, monkeypatch):
    monkeypatch.setenv("FLUX_CORS_ORIGINS", given)
    assert ApiSettings(_env_file=None).cors_origins == origins


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("localhost:5173", "is no origin; write scheme://host:port"),
        ("//example.org", "is no origin"),
        ("null", "is no origin"),
        ("http://example.org:port", "is no origin"),
        ("https://example.org/app", "leave out everything but scheme, host and port"),
        ("https://user@example.org", "leave out everything but"),
        ("*", "would let every web page give orders"),
    ],
)
def test_what_is_no_origin_is_refused_in_words(given, words, monkeypatch):
    monkeypatch.setenv("FLUX_CORS_ORIGINS", f"https://example.org,{given}")
    with pytest.raises(ValidationError, match=words):
        ApiSettings(_env_file=None)

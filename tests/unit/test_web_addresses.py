"""Hosts, origins and prefixes in all the spellings that browsers and proxies have for them."""

import pytest
from pydantic import ValidationError

from shared.settings import ApiSettings
from shared.web_addresses import check_allowed_host, host_and_port, is_same_origin, is_this_machine, normal_host


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("localhost", "localhost", None),
        ("LocalHost:8000", "localhost", 8000),
        ("box.example.:80", "box.example", 80),
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("[::1]:8000", "::1", 8000),
        ("[0:0:0:0:0:0:0:1]", "::1", None),
        ("[::ffff:127.0.0.1]:8000", "127.0.0.1", 8000),
        ("[fe80::1%25eth0]:8000", "fe80::1", 8000),
        ("box:", "box", None),
    ],
)
def test_one_host_has_one_spelling(written: str, host: str, port: int | None):
    assert host_and_port(written) == (host, port)


@pytest.mark.parametrize(
    "written", ["", "a b", "user@host", "a:b:c", "http://host", "host/path", "[::1", "a,b", "[box]"]
)
def test_what_is_no_host_is_none(written: str):
    assert host_and_port(written) is None


@pytest.mark.parametrize("host", ["localhost", "api.localhost", "127.0.0.1", "127.3.2.1", "::1", "0.0.0.0", "::"])
def test_loopback_can_only_be_this_machine(host: str):
    assert is_this_machine(host)


@pytest.mark.parametrize("host", ["localhost.example", "xlocalhost", "128.0.0.1", "192.168.0.7", "fe80::1"])
def test_others_may_be_another_machine(host: str):
    assert not is_this_machine(host)


@pytest.mark.parametrize(
    ("origin", "authority"),
    [
        ("http://localhost:8000", "localhost:8000"),
        ("http://LOCALHOST:8000", "localhost.:8000"),
        ("http://box", "box:80"),
        ("https://box", "box"),
        ("https://box:443", "box"),
        ("http://[::1]:8000", "[0::1]:8000"),
    ],
)
def test_a_page_of_this_server_is_known_in_every_spelling(origin: str, authority: str):
    assert is_same_origin(origin, authority)


@pytest.mark.parametrize(
    ("origin", "authority"),
    [
        ("http://localhost:8001", "localhost:8000"),
        ("http://box", "box:8000"),
        ("http://evil.example", "localhost:8000"),
        ("http://localhost:8000.evil.example", "localhost:8000"),
        ("http://localhost:8000@evil.example", "localhost:8000"),
        ("null", "localhost:8000"),
        ("", "localhost:8000"),
        ("null", ""),
        ("file://", ""),
        ("chrome-extension://abc", "abc"),
    ],
)
def test_a_page_of_another_origin_is_foreign(origin: str, authority: str):
    assert not is_same_origin(origin, authority)


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        ("*", "*"),
        ("Box.Example.", "box.example"),
        ("*.Example", "*.example"),
        ("::1", "::1"),
        ("[FE80::1]", "fe80::1"),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_an_allowed_host_is_kept_in_one_spelling(entry: str, kept: str):
    assert check_allowed_host(entry) == kept


@pytest.mark.parametrize("entry", ["http://box", "box:8000", "[::1]:8000", "a*.example", "box/path", "a b"])
def test_an_allowed_host_that_could_never_match_is_refused_at_the_start(entry: str):
    with pytest.raises(ValidationError, match="is no host; write a name or an address"):
        ApiSettings(_env_file=None, allowed_hosts=f"good.example,{entry}")


@pytest.mark.parametrize(("text", "kept"), [("", ""), ("/", ""), ("/flux", "/flux"), ("/a/b-c.d/", "/a/b-c.d")])
def test_a_path_prefix_is_kept_without_its_last_slash(text: str, kept: str):
    assert ApiSettings(_env_file=None, root_path=text).root_path == kept


@pytest.mark.parametrize("text", ["flux", "//evil.example", "/a//b", "/a/../b", "/a?b", "/a b", "http://x/flux", "/."])
def test_a_path_prefix_that_is_no_plain_path_is_refused(text: str):
    with pytest.raises(ValidationError, match="is no path such as /flux"):
        ApiSettings(_env_file=None, root_path=text)


@pytest.mark.parametrize("text", ["/api", "/docs/x", "/health/"])
def test_a_path_prefix_that_looks_like_an_own_address_is_refused(text: str):
    with pytest.raises(ValidationError, match="begins like an address of this server"):
        ApiSettings(_env_file=None, root_path=text)


def test_an_international_name_is_compared_as_a_browser_sends_it():
    assert normal_host("Bücher.Example.") == "xn--bcher-kva.example"

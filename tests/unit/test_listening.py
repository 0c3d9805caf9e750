"""What a host in the settings stands for: addresses that listen, or words."""

import socket

import pytest
from pydantic import ValidationError

from shared.listening import CannotListen, bind_sockets
from shared.settings import HostSettings


@pytest.fixture
def bound():
    opened = []

    def bind(host, port=0):
        sockets = bind_sockets(host, port)
        opened.extend(sockets)
        for item in sockets:
            item.listen()
        return sockets

    yield bind
    for item in opened:
        item.close()


def reaches(address, port):
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "reached", "unreached"),
    [
        ("::", ("::1", "127.0.0.1"), ()),
        ("::1", ("::1",), ("127.0.0.1",)),
        ("0.0.0.0", ("127.0.0.1", "127.0.0.2"), ("::1",)),
        ("127.0.0.2", ("127.0.0.2",), ("127.0.0.1", "::1")),
        ("localhost", ("localhost",), ("127.0.0.2",)),
    ],
)
def test_a_host_listens_on_its_addresses_and_no_others(bound, host, reached, unreached):
    port = bound(host)[0].getsockname()[1]
    assert [reaches(address, port) for address in (*reached, *unreached)] == [True] * len(reached) + [False] * len(
        unreached
    )


def test_a_name_with_two_addresses_has_one_port(bound, monkeypatch):
    # Given a name that stands for both loopback addresses, as in most hosts files
    both = [(socket.AF_INET6, 1, 6, "", ("::1", 0, 0, 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **named: both if host == "box" else resolve(host, *rest, **named)
    )
    # When it listens on any free port, then it is the same one
    ports = [item.getsockname()[1] for item in bound("box")]
    assert len(ports) == 2
    assert len(set(ports)) == 1


@pytest.mark.parametrize("taken", ["127.0.0.1", "::1"])
def test_a_taken_port_is_told_in_words(bound, taken):
    port = bound(taken)[0].getsockname()[1]
    with pytest.raises(CannotListen, match=rf":{port}: another program uses this port"):
        bound("::", port)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "does not have this address"),
        ("2001:db8::1", r"Cannot listen on \[2001:db8::1\]:0: this machine does not have this"),
        ("x" * 70, "no address is known for this name"),
    ],
)
def test_an_address_that_is_not_ours_is_told_in_words(host, words):
    with pytest.raises(CannotListen, match=words):
        bind_sockets(host, 0)


@pytest.mark.parametrize(
    ("given", "host"), [("[::1]", "::1"), (" ::1 ", "::1"), ("fe80::1%lo", "fe80::1%lo"), ("box", "box")]
)
def test_a_host_may_have_brackets(given, host):
    assert HostSettings(_env_file=None, host=given).host == host


@pytest.mark.parametrize("host", ["http://0.0.0.0", "127.0.0.1:8000", "[::1]:8000", "a b", "box/"])
def test_more_than_a_host_is_refused_in_words(host):
    with pytest.raises(ValidationError, match=r"is no address and no name of a host; write"):
        HostSettings(_env_file=None, host=host)

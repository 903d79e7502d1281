"""Which spellings of an address are understood, and what is said of the others."""

from __future__ import annotations

import pytest

from zmesh import ConfigurationError, NetworkConfig
from zmesh.address import check_host, parse_address, parse_peer_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("tcp://10.0.0.5:7700", "10.0.0.5", 7700),
        ("tcp://10.0.0.5", "10.0.0.5", 7650),
        ("10.0.0.5", "10.0.0.5", 7650),
        ("10.0.0.5:7700", "10.0.0.5", 7700),
        ("[::1]:7700", "::1", 7700),
        ("[::1]", "::1", 7650),
        ("tcp://[fe80::1%eth0]:7700", "fe80::1%eth0", 7700),
        ("host.local", "host.local", 7650),
        ("host.example.org.", "host.example.org.", 7650),
        ("localhost", "localhost", 7650),
        ("desk:7700", "desk", 7700),
        ("tcp://desk", "desk", 7650),
        ("tcp://my_host-2:1", "my_host-2", 1),
        ("tcp://grün.example:65532", "grün.example", 65532),
    ],
)
def test_what_can_mean_one_thing_only_is_understood(text: str, host: str, port: int) -> None:
    assert parse_peer_address(text) == (host, port)
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("foo", "write tcp://foo:7650 if foo is a host's name"),
        ("7700", "is not tcp://HOST:PORT, as in tcp://10.0.0.5:7650"),
        (":7700", "is not tcp://HOST:PORT, as in"),
        ("", "is not tcp://HOST:PORT, as in"),
        ("fd00::5", r"in brackets, as in tcp://\[fd00::5\]:7650"),
        ("tcp://fd00::5:7650", "in brackets"),
        ("http://10.0.0.5", "only tcp:// is spoken, as in tcp://10.0.0.5:7650"),
        ("udp://10.0.0.5:7650", "only tcp:// is spoken"),
        ("tcp://", "is not tcp://HOST:PORT, as in"),
        ("tcp://10.0.0.5:", "is not tcp://HOST:PORT, as in"),
        ("tcp://10.0.0.5:seven", "is not tcp://HOST:PORT, as in"),
        ("tcp://10.0.0.5:-1", "is not tcp://HOST:PORT, as in"),
        ("tcp://10.0.0.5:7650/x", "is not tcp://HOST:PORT, as in"),
        ("tcp://user@host:1", "neither an IP address nor a host name"),
        ("10.0.0.256", "no IPv4 address"),
        ("10.0.0", "no IPv4 address"),
        ("tcp://[fd00::x]:1", r"no IPv6 address, like \[fd00::2\]"),
        ("a b.local", "is not tcp://HOST:PORT"),
        ("-x.local", "neither an IP address nor a host name"),
        ("tcp://x..y:1", "neither an IP address nor a host name"),
        ("tcp://10.0.0.5:65533", "the port must be at most 65532"),
        ("tcp://10.0.0.5:99999", "the port must be at most 65532"),
    ],
)
def test_what_cannot_be_is_refused_with_the_right_form(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["tcp://*:7650", "*", "tcp://0.0.0.0:7650", "tcp://[::]:7650", "tcp://10.0.0.5:0"])
def test_what_can_be_listened_on_alone_is_not_dialled(text: str) -> None:
    parse_address(text)
    with pytest.raises(ConfigurationError, match=r"but not dialled: write one as tcp://10\.0\.0\.5:7650"):
        parse_peer_address(text)


@pytest.mark.parametrize("host", ["10.0.0.5", "fd00::5", "desk", "desk.example.org"])
def test_a_host_needs_no_port(host: str) -> None:
    check_host(host)


@pytest.mark.parametrize("host", ["", "*", "0.0.0.0", "[fd00::5]", "10.0.0.5:7650", "tcp://10.0.0.5", "a b", "1.2.3"])
def test_a_host_is_a_host_alone(host: str) -> None:
    with pytest.raises(ConfigurationError, match="host "):
        check_host(host)


@pytest.mark.parametrize(
    "wrong", [{"bootstrap": ("foo",)}, {"bootstrap": ("*",)}, {"listen": "foo"}, {"advertise": ("10.0.0.5:1",)}]
)
def test_a_configuration_with_a_wrong_address_is_refused_when_it_is_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        NetworkConfig().with_changes(**wrong)

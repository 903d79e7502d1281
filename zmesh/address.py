"""Addresses as people write them: ``tcp://HOST:PORT``, and what else can mean one thing only.

The scheme may be left out, and the port too (7650 then). A lone word is refused, because a forgotten ``tcp://`` and a
value that belongs to another option look the same; so is an IPv6 address without brackets, whose end may be a port.
"""

from __future__ import annotations

import ipaddress
import re

from zmesh.errors import ConfigurationError

__all__ = ["DEFAULT_PORT", "PORTS_PER_NODE", "check_host", "parse_address", "parse_peer_address"]

DEFAULT_PORT = 7650  # a node uses four consecutive ports from its base: introduction, control, data, publish
PORTS_PER_NODE = 4
MAX_PORT = 65_535 - (PORTS_PER_NODE - 1)
MAX_NAME_LENGTH = 253

_SCHEME = "tcp://"
_HOST_AND_PORT = re.compile(r"(\[[^\[\]/\s]+\]|[^\[\]:/\s]+)(?::(\d{1,5}))?")
_NAME = re.compile(r"\w([\w-]*\w)?(\.\w([\w-]*\w)?)*\.?")
_EXAMPLES = f"tcp://10.0.0.5:{DEFAULT_PORT}, tcp://[fd00::2]:{DEFAULT_PORT} or tcp://desk.local:{DEFAULT_PORT}"
_EVERYWHERE = ("*", "0.0.0.0", "::")


def parse_address(address: str) -> tuple[str, int]:
    """An address to listen on, as ``(host, port)``: ``*`` is every interface, port 0 any free one.

    Raises ``ConfigurationError`` with the right form.
    """
    scheme, _, rest = address.rpartition("://")
    if scheme not in ("", "tcp"):
        raise ConfigurationError(f"address {address!r}: only tcp:// is spoken, as in {_EXAMPLES}")
    match = _HOST_AND_PORT.fullmatch(rest)
    if match is None:
        raise ConfigurationError(f"address {address!r} is not {_form(rest)}")
    host, port = match[1], match[2]
    if not scheme and port is None and not _is_clear(host):
        raise ConfigurationError(f"address {address!r} is not {_form(host)}")
    _check_host(host, f"address {address!r}")
    return host.strip("[]"), _port(port, address)


def parse_peer_address(address: str) -> tuple[str, int]:
    """An address where somebody else listens, as ``(host, port)``. Raises ``ConfigurationError``."""
    host, port = parse_address(address)
    if host in _EVERYWHERE or port == 0:
        raise ConfigurationError(f"address {address!r} can be listened on, but not dialled: write one as {_EXAMPLES}")
    return host, port


def check_host(host: str) -> None:
    """Raise ``ConfigurationError`` unless this is a host name, or an IP address without brackets."""
    if host in _EVERYWHERE:
        raise ConfigurationError(f"host {host!r} is no place that others could dial")
    if host.startswith("["):
        raise ConfigurationError(f"host {host!r} must be written without brackets, and without a port")
    _check_host(f"[{host}]" if _is_ipv6(host) else host, f"host {host!r}")


def _check_host(host: str, what: str) -> None:
    if host.startswith("["):
        if not _is_ipv6(host[1:-1]):
            raise ConfigurationError(f"{what}: {host} is no IPv6 address, like [fd00::2]")
    elif re.fullmatch(r"[\d.]+", host):
        if not _is_ipv4(host):
            raise ConfigurationError(f"{what}: {host} is no IPv4 address, like 10.0.0.5")
    elif host != "*" and (len(host) > MAX_NAME_LENGTH or not _NAME.fullmatch(host)):
        raise ConfigurationError(f"{what}: {host!r} is neither an IP address nor a host name")


def _port(text: str | None, address: str) -> int:
    port = int(text) if text is not None else DEFAULT_PORT
    if port > MAX_PORT:
        raise ConfigurationError(
            f"address {address!r}: the port must be at most {MAX_PORT}, since a node uses {PORTS_PER_NODE} from there"
        )
    return port


def _is_clear(host: str) -> bool:
    """Whether it is seen to be a host without a scheme and a port beside it."""
    return host in ("*", "localhost") or host.startswith("[") or "." in host.rstrip(".")


def _form(host: str) -> str:
    """What to write instead: close to what was written, where that can be guessed."""
    if _is_ipv6(host):
        return f"clear: an IPv6 address goes in brackets, as in tcp://[{host}]:{DEFAULT_PORT}"
    if host.isascii() and host.isdigit():
        return f"tcp://HOST:PORT, as in {_EXAMPLES}"
    if _NAME.fullmatch(host):
        return f"tcp://HOST:PORT: write {_SCHEME}{host}:{DEFAULT_PORT} if {host} is a host's name"
    return f"tcp://HOST:PORT, as in {_EXAMPLES}"


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True

"""The four bound sockets of a node, on four consecutive ports."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import zmq

from zmesh.address import DEFAULT_PORT, PORTS_PER_NODE
from zmesh.errors import AddressInUse, ConfigurationError
from zmesh.runtime.monitor import LISTENER_EVENTS, SocketMonitor
from zmesh.security import Identity
from zmesh.wire.introduction import MAX_INTRODUCTION_BYTES
from zmesh.wire.membership import MAX_MEMBERSHIP_BYTES

__all__ = ["ZAP_DOMAINS", "BoundSockets", "bind_port_block", "endpoint"]

ZAP_DOMAINS = ("zmesh.introduction", "zmesh.control", "zmesh.data", "zmesh.publish")  # in the order of the ports

BLOCKS_TRIED = 100  # from the default port, in steps of ten
BLOCK_STEP = 10
FREE_PORTS = range(10_000, 32_000)  # below the ports that Linux gives to outgoing connections
CURVE_BYTES = 64  # what CURVE adds to a frame counts towards MAXMSGSIZE
HANDSHAKE_MS = 3000
BACKLOG = 1024
KEEPALIVE = {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 60, zmq.TCP_KEEPALIVE_INTVL: 10, zmq.TCP_KEEPALIVE_CNT: 3}

_Options = Mapping[zmq.SocketOption, int]


@dataclass(frozen=True, slots=True)
class BoundSockets:
    """Four listening sockets, and a monitor for each, in the order of ``ZAP_DOMAINS``.

    ``introduction``, ``control`` and all monitors go to the ``ControlPlane``, which closes them.
    """

    introduction: zmq.Socket[bytes]
    control: zmq.Socket[bytes]
    data: zmq.Socket[bytes]
    publish: zmq.Socket[bytes]
    monitors: tuple[SocketMonitor, ...]
    base_port: int

    def close(self) -> None:
        """Close everything, where it is not to be used after all. On the thread that bound them."""
        for monitor in self.monitors:
            monitor.close()
        for bound in (self.introduction, self.control, self.data, self.publish):
            bound.close(linger=0)


def bind_port_block(
    context: zmq.Context[zmq.Socket[bytes]],
    identity: Identity,
    host: str = "*",
    port: int | None = None,
    *,
    data_options: _Options | None = None,
    publish_options: _Options | None = None,
) -> BoundSockets:
    """Bind the introduction, control, data and publish sockets to ``port`` and the three after it.

    ``host`` is ``*`` (IPv4 and IPv6), or an address of this machine. ``port`` None: the first free block from 7650 in
    steps of ten; 0: any free block. The options are set on the data ROUTER and the publish XPUB before they are bound.
    The ZAP handler must be bound in ``context`` (by a ``ControlPlane``), else every connection is refused. Raises
    ``AddressInUse``, ``ConfigurationError``.
    """
    for base in _candidates(port):
        sockets = _create(context, identity, host, base, (data_options or {}, publish_options or {}))
        taken = _try_bind(sockets, host)
        if taken is None:
            return sockets
        sockets.close()
        if port is not None and port != 0:
            raise AddressInUse(
                f"port {taken} of {host} is in use, and a node needs {base} to {base + PORTS_PER_NODE - 1}: "
                "listen on another port, or name none and a free one is found"
            )
    raise AddressInUse(f"no four consecutive ports of {host} are free: listen on a port of your choice")


def endpoint(host: str, port: int) -> str:
    """The ZeroMQ endpoint; IPv6 hosts get their brackets."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _candidates(port: int | None) -> Iterator[int]:
    if port is None:
        yield from range(DEFAULT_PORT, DEFAULT_PORT + BLOCKS_TRIED * BLOCK_STEP, BLOCK_STEP)
    elif port == 0:
        chance = random.SystemRandom()
        for _ in range(BLOCKS_TRIED):
            yield chance.choice(FREE_PORTS)
    else:
        yield port


def _create(
    context: zmq.Context[zmq.Socket[bytes]],
    identity: Identity,
    host: str,
    base: int,
    extra: tuple[_Options, _Options],
) -> BoundSockets:
    settings: list[tuple[int, bytes, _Options]] = [
        (zmq.ROUTER, identity.gate_secret, {zmq.MAXMSGSIZE: MAX_INTRODUCTION_BYTES + CURVE_BYTES}),
        (zmq.ROUTER, identity.curve_secret, {zmq.MAXMSGSIZE: MAX_MEMBERSHIP_BYTES + CURVE_BYTES}),
        (zmq.ROUTER, identity.curve_secret, extra[0]),
        (zmq.XPUB, identity.curve_secret, extra[1]),
    ]
    made = []
    for (kind, secret, options), domain in zip(settings, ZAP_DOMAINS, strict=True):
        bound = _server_socket(context, kind, secret, domain)
        bound.setsockopt(zmq.IPV6, int(host == "*" or ":" in host))
        for option, value in options.items():
            bound.setsockopt(option, value)
        made.append(bound)
    monitors = tuple(SocketMonitor(context, bound, LISTENER_EVENTS) for bound in made)
    introduction, control, data, publish = made
    return BoundSockets(introduction, control, data, publish, monitors, base)


def _server_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int, secret: bytes, domain: str) -> zmq.Socket[bytes]:
    bound = context.socket(kind)
    bound.setsockopt(zmq.CURVE_SERVER, 1)
    bound.setsockopt(zmq.CURVE_SECRETKEY, secret)
    bound.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
    bound.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    bound.setsockopt(zmq.RCVHWM, 0)
    bound.setsockopt(zmq.LINGER, 0)
    bound.setsockopt(zmq.BACKLOG, BACKLOG)
    bound.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    if kind == zmq.ROUTER:
        bound.setsockopt(zmq.ROUTER_MANDATORY, 1)
    for option, value in KEEPALIVE.items():
        bound.setsockopt(option, value)
    return bound


def _try_bind(sockets: BoundSockets, host: str) -> int | None:
    """Bind all four; the port that is taken, if one is. Raises ``ConfigurationError`` where no port can help."""
    in_order = (sockets.introduction, sockets.control, sockets.data, sockets.publish)
    for port, bound in enumerate(in_order, sockets.base_port):
        try:
            bound.bind(endpoint(host, port))
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                return port
            sockets.close()
            raise _explained(error, host, port) from None
    return None


def _explained(error: zmq.ZMQError, host: str, port: int) -> ConfigurationError:
    if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV):
        return ConfigurationError(f"cannot listen on {host}: this machine has no such address (see `ip address`)")
    if error.errno == errno.EACCES:
        return ConfigurationError(f"cannot listen on port {port}: ports below 1024 need root; choose one above")
    return ConfigurationError(f"cannot listen on {endpoint(host, port)}: {error.strerror}")

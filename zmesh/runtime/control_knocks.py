"""Knocks: bare TCP connections that ask a kernel whether a port is listened on, without waiting for anything."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from zmesh.core.membership.messages import KnockOutcome
from zmesh.runtime.control_reactor import Reactor
from zmesh.runtime.peer import Route

__all__ = ["Knocks"]

MAX_KNOCKS: Final = 64  # at once; those beyond are not made, which is as if nobody had answered


@dataclass(frozen=True, slots=True)
class _Knock:
    connection: socket.socket
    deadline: float


class Knocks:
    """The knocks under way, one a node. Used on the control thread alone."""

    def __init__(
        self,
        reactor: Reactor,
        clock: Callable[[], float],
        wait_s: float,
        answer: Callable[[str, KnockOutcome], None],
    ) -> None:
        """``answer`` is called later, never from within ``knock``."""
        self._reactor = reactor
        self._clock = clock
        self._wait_s = wait_s
        self._answer = answer
        self._knocks: dict[str, _Knock] = {}

    def knock(self, node_id: str, route: Route) -> None:
        """Connect to that node's control port, unless that is being done."""
        if node_id in self._knocks or len(self._knocks) >= MAX_KNOCKS:
            return
        family, address = _address_of(route)
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        error = connection.connect_ex(address)
        if error != errno.EINPROGRESS:
            connection.close()
            self._reactor.call(partial(self._answer, node_id, _outcome_of(error)))
            return
        self._knocks[node_id] = _Knock(connection, self._clock() + self._wait_s)
        self._reactor.watch(connection.fileno(), partial(self._decided, node_id), writable=True)

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due."""
        return min((knock.deadline for knock in self._knocks.values()), default=None)

    def handle_timeout(self) -> None:
        """Give up those that nobody answers."""
        now = self._clock()
        for node_id in [node_id for node_id, knock in self._knocks.items() if knock.deadline <= now]:
            self._close(node_id)
            self._answer(node_id, KnockOutcome.SILENT)

    def close(self) -> None:
        """Give up all."""
        for node_id in list(self._knocks):
            self._close(node_id)

    def _decided(self, node_id: str) -> None:
        knock = self._knocks.get(node_id)
        if knock is not None:
            error = knock.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._close(node_id)
            self._answer(node_id, _outcome_of(error))

    def _close(self, node_id: str) -> None:
        connection = self._knocks.pop(node_id).connection
        self._reactor.unwatch(connection.fileno())
        connection.close()


def _outcome_of(error: int) -> KnockOutcome:
    if error == 0:
        return KnockOutcome.OPEN
    return KnockOutcome.REFUSED if error == errno.ECONNREFUSED else KnockOutcome.SILENT


def _address_of(route: Route) -> tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]:
    """For ``connect``; a route's host is an address, so nothing is looked up."""
    host, _, zone = route.host.partition("%")
    if ":" not in host:
        return socket.AF_INET, (host, route.port)
    return socket.AF_INET6, (host, route.port, 0, _scope_of(zone))


def _scope_of(zone: str) -> int:
    if zone.isdecimal() or not zone:
        return int(zone or 0)
    try:
        return socket.if_nametoindex(zone)
    except OSError:
        return 0  # the interface is gone, and so is the way: connecting will say so

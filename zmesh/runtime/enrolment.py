"""A new machine becomes a member: one question to whoever made the invitation, before the network starts."""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import zmq

from zmesh.address import parse_peer_address
from zmesh.core.introduction.messages import Enrol, Enrolled, Rejection
from zmesh.errors import ConfigurationError, InvitationError, ProtocolViolation
from zmesh.model import now_ms
from zmesh.runtime.control_links import client_socket
from zmesh.runtime.control_resolver import Resolver, is_literal
from zmesh.runtime.ports import endpoint
from zmesh.security import EnrolAnswer, Invitation, NodeKeys, make_request, open_answer
from zmesh.security import Enrolled as VerifiedEnrolment
from zmesh.wire.introduction import decode_introduction, encode_introduction

__all__ = ["enrol"]

POLL_MS: Final = 50  # how soon an address that had to be looked up is dialled, and an abandoned attempt ends
PROBE_TIMEOUT_S: Final = 1.0  # a refused connection is known in a round trip; what takes longer is a firewall's doing
NOT_HERE: Final = ("no_authority",)  # an answer that leaves hope for the other addresses


def enrol(
    invitation: Invitation,
    name: str,
    keys: NodeKeys,
    timeout_s: float,
    is_abandoned: Callable[[], bool] = lambda: False,
) -> VerifiedEnrolment:
    """Redeem the invitation: the verified answer, ready for ``Keystore.save_enrolled``.

    All addresses of the invitation are asked at once. Blocks, for ``timeout_s`` seconds and one more to find out what
    is wrong at most, and not for long once ``is_abandoned`` says so. Raises ``InvitationError`` with what the authority
    said, or how each address failed.
    """
    with _context() as context:
        asking = _Asking(context, invitation, name, keys)
        try:
            sealed = asking.run(timeout_s, is_abandoned)
        finally:
            asking.close()
    if sealed is None:
        raise InvitationError("enrolment was given up before anybody had answered")
    return open_answer(invitation, keys, EnrolAnswer(sealed), now_ms())


@contextmanager
def _context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        yield context
    finally:
        context.term()


class _Asking:
    """The same question to every address, until one answers it."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], invitation: Invitation, name: str, keys: NodeKeys
    ) -> None:
        self._context = context
        self._invitation = invitation
        self._keys = keys
        request = make_request(invitation, name, keys)
        self._frame = encode_introduction(
            Enrol(request.invitation_id, request.name, request.curve_public, request.signing_public, request.proof)
        )
        self._poller = zmq.Poller()
        self._dealers: dict[zmq.Socket[bytes], str] = {}  # the invitation's address that each is connected to
        self._found: queue.SimpleQueue[tuple[str, str, int]] = queue.SimpleQueue()
        self._resolver = Resolver()
        self._why: dict[str, str] = {}  # how each address failed, as far as that is known

    def run(self, timeout_s: float, is_abandoned: Callable[[], bool]) -> bytes | None:
        """The sealed answer; None once abandoned. Raises ``InvitationError``."""
        for address in self._invitation.addresses:
            self._start(address)
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            if is_abandoned():
                return None
            while not self._found.empty():
                self._connect(*self._found.get())
            for dealer, _ in self._poller.poll(min(POLL_MS, round(left_s * 1000) + 1)):
                sealed = self._attend(dealer)
                if sealed is not None:
                    return sealed
        raise InvitationError(self._failure(timeout_s))

    def close(self) -> None:
        """Close all connections."""
        for dealer in self._dealers:
            dealer.close(linger=0)

    def _start(self, address: str) -> None:
        try:
            host, port = parse_peer_address(address)
        except ConfigurationError as error:
            raise InvitationError(f"the join string names an address that is none: {error}") from None
        if is_literal(host):
            self._connect(address, host, port)
        else:
            self._resolver.resolve(host, lambda found, error: self._looked_up(address, found, error, port))

    def _looked_up(self, address: str, found: tuple[str, ...], error: str, port: int) -> None:
        if error:
            self._why[address] = error
        for host in found:
            self._found.put((address, host, port))

    def _connect(self, address: str, host: str, port: int) -> None:
        keys = self._keys
        dealer = client_socket(self._context, keys.curve_public, keys.curve_secret, self._invitation.gate_public)
        self._dealers[dealer] = address
        self._poller.register(dealer, zmq.POLLIN | zmq.POLLOUT)
        dealer.connect(endpoint(host, port))

    def _attend(self, dealer: zmq.Socket[bytes]) -> bytes | None:
        if dealer.poll(0, zmq.POLLIN):
            return self._receive(dealer)
        try:
            dealer.send(self._frame, zmq.NOBLOCK)
            self._poller.register(dealer, zmq.POLLIN)
            self._why[self._dealers[dealer]] = "it was asked and did not answer"
        except zmq.Again:
            self._why[self._dealers[dealer]] = "the connection broke"
        return None

    def _receive(self, dealer: zmq.Socket[bytes]) -> bytes | None:
        address = self._dealers[dealer]
        try:
            answer = decode_introduction(dealer.recv_multipart()[0])
        except ProtocolViolation as violation:
            self._why[address] = f"an answer could not be read: {violation}"
            return None
        if isinstance(answer, Enrolled):
            return answer.sealed
        if isinstance(answer, Rejection) and answer.code not in NOT_HERE:
            raise InvitationError(answer.detail)
        if isinstance(answer, Rejection):
            self._why[address] = answer.detail
        return None

    def _failure(self, timeout_s: float) -> str:
        """What failed where, and what to do."""
        addresses = self._invitation.addresses
        with ThreadPoolExecutor(len(addresses)) as probes:
            reasons = list(probes.map(lambda address: self._why.get(address) or _probe(address), addresses))
        tried = "; ".join(f"{address}: {reason}" for address, reason in zip(addresses, reasons, strict=True))
        return (
            f"nobody has let this machine in within {timeout_s:g} s ({tried}): start `zmesh-node` on the machine that "
            "made the join string, let its port through firewalls, or make a string with an address that this machine "
            "can reach, by `zmesh invite --address tcp://HOST:PORT` there"
        )


def _probe(address: str) -> str:
    """Why no connection came about: what ZeroMQ, which tries again and again, does not tell."""
    host, port = parse_peer_address(address)
    try:
        socket.create_connection((host, port), PROBE_TIMEOUT_S).close()
    except TimeoutError:
        return "nothing answers there"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "something answers there, but no node of this mesh"

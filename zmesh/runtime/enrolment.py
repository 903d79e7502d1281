"""A new machine becomes a member: one question to whoever made the invitation, before the network starts."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager

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
from zmesh.wire.control import decode_introduction, encode_introduction

__all__ = ["enrol"]

POLL_MS = 50  # how soon an address that had to be looked up is dialled
NOT_HERE = ("no_authority",)  # an answer that leaves hope for the other addresses


def enrol(invitation: Invitation, name: str, keys: NodeKeys, timeout_s: float) -> VerifiedEnrolment:
    """Redeem the invitation: the verified answer, ready for ``Keystore.save_enrolled``.

    All addresses of the invitation are asked at once. Blocks, for ``timeout_s`` seconds at most. Raises
    ``InvitationError`` with what the authority said, or that it cannot be reached.
    """
    with _context() as context:
        asking = _Asking(context, invitation, name, keys)
        try:
            sealed = asking.run(timeout_s)
        finally:
            asking.close()
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
        self._dealers: list[zmq.Socket[bytes]] = []
        self._found: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self._resolver = Resolver()
        self._why = "nobody answers"

    def run(self, timeout_s: float) -> bytes:
        """The sealed answer. Raises ``InvitationError``."""
        for address in self._invitation.addresses:
            self._start(address)
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            while not self._found.empty():
                self._connect(*self._found.get())
            for dealer, _ in self._poller.poll(min(POLL_MS, round(left_s * 1000) + 1)):
                sealed = self._attend(dealer)
                if sealed is not None:
                    return sealed
        addresses = ", ".join(self._invitation.addresses)
        raise InvitationError(
            f"cannot enrol at {addresses}: {self._why}. Is the node that made the invitation running, and do "
            "firewalls let its port through?"
        )

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
            self._connect(host, port)
        else:
            self._resolver.resolve(host, lambda found, error: self._looked_up(found, error, port))

    def _looked_up(self, found: tuple[str, ...], error: str, port: int) -> None:
        self._why = error or self._why
        for host in found:
            self._found.put((host, port))

    def _connect(self, host: str, port: int) -> None:
        keys = self._keys
        dealer = client_socket(self._context, keys.curve_public, keys.curve_secret, self._invitation.gate_public)
        self._dealers.append(dealer)
        self._poller.register(dealer, zmq.POLLIN | zmq.POLLOUT)
        dealer.connect(endpoint(host, port))

    def _attend(self, dealer: zmq.Socket[bytes]) -> bytes | None:
        if dealer.poll(0, zmq.POLLIN):
            return self._receive(dealer)
        try:
            dealer.send(self._frame, zmq.NOBLOCK)
            self._poller.register(dealer, zmq.POLLIN)
        except zmq.Again:
            self._why = "the connection broke"
        return None

    def _receive(self, dealer: zmq.Socket[bytes]) -> bytes | None:
        try:
            answer = decode_introduction(dealer.recv_multipart()[0])
        except ProtocolViolation as violation:
            self._why = f"an answer could not be read: {violation}"
            return None
        if isinstance(answer, Enrolled):
            return answer.sealed
        if isinstance(answer, Rejection) and answer.code not in NOT_HERE:
            raise InvitationError(answer.detail)
        if isinstance(answer, Rejection):
            self._why = answer.detail
        return None

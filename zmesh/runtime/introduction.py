"""Introductions over ZeroMQ: the server on the gate key, and the connections of the dialling machine.

Server: stateless. A hello is verified and answered at once, an enrolment is passed to the authority; nothing is kept of
whoever asked. Client: each dial is a DEALER of its own under this node's key, closed as soon as it has served.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import zmq

from zmesh.core.introduction.messages import Enrol, Enrolled, Hello, IntroductionMessage, Rejection
from zmesh.errors import InvitationError, KeystoreError, ProtocolViolation
from zmesh.runtime.control_links import client_socket
from zmesh.runtime.control_notices import IncidentLog
from zmesh.runtime.control_reactor import Reactor
from zmesh.runtime.control_resolver import Resolver, is_literal
from zmesh.runtime.monitor import DIALLER_EVENTS, SocketMonitor
from zmesh.runtime.ports import endpoint
from zmesh.runtime.sockets import has_input
from zmesh.security import Authority, CertificateRefused, EnrolRequest, Identity, VerifiedCertificate, Verifier
from zmesh.wire.introduction import decode_introduction, encode_introduction
from zmesh.wire.membership import CONTROL_VERSION

__all__ = ["Dials", "IntroductionServer"]

logger = logging.getLogger("zmesh.control")

_Address = tuple[str, int]


class IntroductionServer:
    """Answers hellos and enrolments on the introduction ROUTER."""

    def __init__(
        self,
        router: zmq.Socket[bytes],
        identity: Identity,
        verifier: Verifier,
        authority: Authority | None,
        incidents: IncidentLog,
        now_ms: Callable[[], int],
        admit: Callable[[VerifiedCertificate, Hello], IntroductionMessage],
    ) -> None:
        self._router = router
        self._identity = identity
        self._verifier = verifier
        self._authority = authority
        self._incidents = incidents
        self._now_ms = now_ms
        self._admit = admit
        self.enrolments = 0

    def handle(self) -> None:
        """Answer what has come."""
        while has_input(self._router):
            frames = self._router.recv_multipart(copy=False)
            source = str(frames[-1].get("Peer-Address"))
            answer = self._answer(frames, source)
            if answer is not None:
                self._send(frames[0].bytes, encode_introduction(answer))

    def _send(self, routing_id: bytes, answer: bytes) -> None:
        try:
            self._router.send_multipart([routing_id, answer], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            # Whoever dialled has what it wanted from another address of ours, and has hung up: nothing is wrong.
            logger.debug("an introduction was not waited for: %s", error)

    def _answer(self, frames: list[zmq.Frame], source: str) -> IntroductionMessage | None:
        try:
            if len(frames) != 2:
                raise ProtocolViolation("malformed_frame", f"{len(frames) - 1} parts instead of one")
            message = decode_introduction(frames[1].bytes)
        except ProtocolViolation as violation:
            self._incidents.report(violation.reason, source, f"an introduction from {source} was dropped: {violation}")
            return None
        key = str(frames[1].get("User-Id")).encode()
        if isinstance(message, Hello):
            return self._answer_hello(message, key, source)
        if isinstance(message, Enrol):
            return self._answer_enrol(message, key, source)
        self._incidents.report("malformed_frame", source, f"{source} sent an answer to the introduction port")
        return None

    def _answer_hello(self, hello: Hello, key: bytes, source: str) -> IntroductionMessage:
        if CONTROL_VERSION not in hello.versions:
            spoken = ", ".join(map(str, hello.versions))
            return self._reject("version", f"this node speaks control version {CONTROL_VERSION}, not {spoken}", source)
        if hello.mesh_id != self._identity.mesh_id:
            return self._reject("other_mesh", "this node is of another mesh", source)
        try:
            verified = self._verifier.verify(hello.certificate, self._now_ms(), key)
        except CertificateRefused as refusal:
            return self._reject(str(refusal.reason_code), str(refusal), source)
        if hello.contact.node_id != verified.name:
            return self._reject("wrong_name", f"the certificate is for {verified.name}", source)
        return self._admit(verified, hello)

    def _answer_enrol(self, enrol: Enrol, key: bytes, source: str) -> IntroductionMessage:
        if self._authority is None:
            return Rejection("no_authority", "this machine did not found the mesh and cannot enrol others")
        if enrol.curve_public != key:
            return self._reject("wrong_key", "the keys to be enrolled are not those of the connection", source)
        request = EnrolRequest(enrol.invitation_id, enrol.name, enrol.curve_public, enrol.signing_public, enrol.proof)
        try:
            answer = self._authority.enrol(request, self._now_ms())
        except InvitationError as error:
            return self._reject("invitation", str(error), source)
        except KeystoreError as error:
            self._incidents.report("enrolment_failed", source, f"an invitation could not be honoured: {error}")
            return Rejection("authority_failed", "the authority cannot write its ledger: look at its own messages")
        self.enrolments += 1
        return Enrolled(answer.sealed)

    def _reject(self, code: str, detail: str, source: str) -> Rejection:
        self._incidents.report("refused_introduction", source, f"an introduction from {source} was refused: {detail}")
        return Rejection(code, detail)


@dataclass(slots=True)
class _Dial:
    port: int
    sockets: list[tuple[zmq.Socket[bytes], SocketMonitor]] = field(default_factory=list)


class Dials:
    """The open connections to introduction ports. What comes back is given on, undecided."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        identity: Identity,
        reactor: Reactor,
        hello: Callable[[], Hello],
        on_answer: Callable[[int, _Address, bytes], None],
        on_failure: Callable[[int, _Address, str], None],
    ) -> None:
        """``on_answer(dial, address, frame)``; ``on_failure(dial, address, reason)``, "" for a failed handshake."""
        self._context = context
        self._identity = identity
        self._reactor = reactor
        self._hello = hello
        self._on_answer = on_answer
        self._on_failure = on_failure
        self._resolver = Resolver()
        self._dials: dict[int, _Dial] = {}
        self.opened = 0

    def open(self, dial: int, host: str, port: int) -> None:
        """Connect, and say hello once connected."""
        self._dials[dial] = _Dial(port)
        if is_literal(host):
            self._connect(dial, host)
        else:
            self._resolver.resolve(
                host, lambda found, error: self._reactor.call(partial(self._resolved, dial, host, found, error))
            )

    def close(self, dial: int) -> None:
        """Close the connections of this dial."""
        for dealer, monitor in self._dials.pop(dial, _Dial(0)).sockets:
            self._reactor.unwatch(dealer)
            self._reactor.unwatch(monitor.reader)
            monitor.close()
            dealer.close(linger=0)

    def close_all(self) -> None:
        """Close everything."""
        for dial in list(self._dials):
            self.close(dial)

    def _resolved(self, dial: int, host: str, addresses: tuple[str, ...], error: str) -> None:
        if dial not in self._dials:
            return
        if error:
            self._on_failure(dial, (host, self._dials[dial].port), error)
        for address in addresses:
            self._connect(dial, address)

    def _connect(self, dial: int, host: str) -> None:
        identity = self._identity
        dealer = client_socket(self._context, identity.curve_public, identity.curve_secret, identity.gate_public)
        monitor = SocketMonitor(self._context, dealer, DIALLER_EVENTS)
        self._dials[dial].sockets.append((dealer, monitor))
        self.opened += 1
        address = (host, self._dials[dial].port)
        self._reactor.watch(dealer, partial(self._say_hello, dial, address, dealer), writable=True)
        self._reactor.watch(monitor.reader, partial(self._on_events, dial, address, monitor))
        dealer.connect(endpoint(*address))

    def _say_hello(self, dial: int, address: _Address, dealer: zmq.Socket[bytes]) -> None:
        if dial not in self._dials:
            return
        try:
            dealer.send(encode_introduction(self._hello()), zmq.NOBLOCK)
        except zmq.Again:
            return  # not connected yet after all
        self._reactor.unwatch(dealer)
        self._reactor.watch(dealer, partial(self._receive, dial, address, dealer))

    def _receive(self, dial: int, address: _Address, dealer: zmq.Socket[bytes]) -> None:
        if dial not in self._dials or not has_input(dealer):
            return
        frames = dealer.recv_multipart()
        self._on_answer(dial, address, frames[0] if len(frames) == 1 else b"")

    def _on_events(self, dial: int, address: _Address, monitor: SocketMonitor) -> None:
        if dial in self._dials and any(event.is_handshake_failure for event in monitor.events()):
            self._on_failure(dial, address, "")

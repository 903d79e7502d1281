"""Who may connect: the ZAP handler (ZeroMQ RFC 27) and the list of keys it consults.

Its socket is bound when it is made, so that CURVE sockets bound after that have a handler; it answers once the control
thread polls it. The User-Id that it gives is what every frame's sender is known by.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import zmq

from zmesh.runtime.control_notices import IncidentLog
from zmesh.runtime.ports import ZAP_DOMAINS
from zmesh.runtime.sockets import has_input
from zmesh.security import VerifiedCertificate
from zmesh.security.keys import z85_encode

__all__ = ["Admitted", "AllowList", "ZapHandler"]

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_VERSION = b"1.0"
REQUEST_FRAMES = 9  # routing id, delimiter, version, request id, domain, address, identity, mechanism, CURVE key
KEY_BYTES = 32

STRANGER_GRACE_S = 3.0
MAX_STRANGERS = 1024
MAX_ADDRESSES = 1024

OK, RETRY, REFUSED = b"200", b"300", b"400"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A node whose certificate has been verified."""

    node_id: str
    curve_public: bytes
    fingerprint: str
    certificate: bytes
    not_after_ms: int


@dataclass(frozen=True, slots=True)
class _Stranger:
    """Somebody with an unknown key, since when (monotonic seconds), where, and whence."""

    since: float
    domain: str
    address: str


class AllowList:
    """The admitted nodes, one key each. Used on the control thread alone."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, Admitted] = {}
        self._by_name: dict[str, Admitted] = {}

    def admit(self, verified: VerifiedCertificate, certificate: bytes) -> Admitted:
        """Let the node connect with the key in its certificate, and with no other from now on."""
        admitted = Admitted(
            verified.name, verified.curve_public, verified.fingerprint, certificate, verified.not_after_ms
        )
        self.forget(verified.name)
        self._by_key[admitted.curve_public] = self._by_name[admitted.node_id] = admitted
        return admitted

    def forget(self, node_id: str) -> None:
        """Let it introduce itself anew, should it come back."""
        previous = self._by_name.pop(node_id, None)
        if previous is not None:
            self._by_key.pop(previous.curve_public, None)

    def by_key(self, curve_public: bytes) -> Admitted | None:
        """The node with that key."""
        return self._by_key.get(curve_public)

    def by_name(self, node_id: str) -> Admitted | None:
        """The node of that name."""
        return self._by_name.get(node_id)


class ZapHandler:
    """Answers libzmq's question for every new connection of a context, of which it must be the only handler."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        allowed: AllowList,
        incidents: IncidentLog,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed = allowed
        self._incidents = incidents
        self._now_ms = now_ms
        self._clock = clock
        self._strangers: dict[bytes, _Stranger] = {}  # by key, in order of arrival
        self._admitted: dict[str, None] = {}  # addresses, the latest last
        self.accepted = 0
        self.refused = 0
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ZAP_ENDPOINT)

    def has_admitted(self, address: str) -> bool:
        """Whether somebody has been let in from there, since the start or as far back as is remembered."""
        return address in self._admitted

    def review(self) -> None:
        """Report those who came with an unknown key and have not been introduced since.

        Not at once: a node that has just restarted knows nobody, and its peers reconnect before they are introduced.
        """
        long_ago = self._clock() - STRANGER_GRACE_S
        for key in [key for key, stranger in self._strangers.items() if stranger.since <= long_ago]:
            stranger = self._strangers.pop(key)
            if self._allowed.by_key(key) is None:
                reason = f"a client of {stranger.domain} has a key that no certificate shown to this node is for"
                self._incidents.report("refused_key", stranger.address, reason)

    def handle(self) -> None:
        """Answer what has been asked."""
        while has_input(self.socket):
            frames = self.socket.recv_multipart()
            if len(frames) >= REQUEST_FRAMES - 1 and frames[2] == ZAP_VERSION:
                status, user_id = self._decide(frames)
                self.socket.send_multipart([frames[0], b"", ZAP_VERSION, frames[3], status, b"", user_id, b""])

    def _decide(self, frames: list[bytes]) -> tuple[bytes, bytes]:
        domain, address = frames[4].decode("utf-8", "replace"), frames[5].decode("utf-8", "replace")
        address = address.removeprefix("::ffff:")  # how a socket for both families writes IPv4
        if frames[7] != b"CURVE" or len(frames) != REQUEST_FRAMES or len(frames[8]) != KEY_BYTES:
            return self._refuse(REFUSED, "refused_mechanism", address, f"a client of {domain} does not speak CURVE")
        if domain not in ZAP_DOMAINS:
            return self._refuse(REFUSED, "refused_domain", address, f"the domain {domain!r} is not one of zmesh's")
        key = z85_encode(frames[8])
        if domain == ZAP_DOMAINS[0]:
            return self._accept(address, key)
        return self._decide_member(key, domain, address)

    def _decide_member(self, key: bytes, domain: str, address: str) -> tuple[bytes, bytes]:
        admitted = self._allowed.by_key(key)
        if admitted is None:
            self.refused += 1
            if len(self._strangers) < MAX_STRANGERS:
                self._strangers.setdefault(key, _Stranger(self._clock(), domain, address))
            return RETRY, b""  # not final: it may be introduced a moment later
        if admitted.not_after_ms < self._now_ms():
            reason = f"the certificate of {admitted.node_id} has expired: renew it there by a new join string"
            return self._refuse(REFUSED, "expired_certificate", admitted.node_id, reason)
        return self._accept(address, admitted.node_id.encode())

    def _accept(self, address: str, user_id: bytes) -> tuple[bytes, bytes]:
        self.accepted += 1
        self._admitted.pop(address, None)
        self._admitted[address] = None
        if len(self._admitted) > MAX_ADDRESSES:
            del self._admitted[next(iter(self._admitted))]
        return OK, user_id

    def _refuse(self, status: bytes, kind: str, source: str, reason: str) -> tuple[bytes, bytes]:
        self.refused += 1
        self._incidents.report(kind, source, reason)
        return status, b""

"""Who may connect: the ZAP handler (ZeroMQ RFC 27), which consults the list of keys in ``admission``.

Its socket is bound when it is made, so that CURVE sockets bound after that have a handler; it answers once the control
thread polls it. The User-Id that it gives is what every frame's sender is known by.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import zmq

from zmesh.runtime.admission import Admitted, AllowList
from zmesh.runtime.control_notices import IncidentLog
from zmesh.runtime.ports import ZAP_DOMAINS
from zmesh.runtime.sockets import has_input
from zmesh.security.keys import z85_encode

__all__ = ["ZapHandler"]

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_VERSION = b"1.0"
REQUEST_FRAMES = 9  # routing id, delimiter, version, request id, domain, address, identity, mechanism, CURVE key
KEY_BYTES = 32

# A client that is told to try again does so only when its handshake times out, 3 s later (libzmq 4.3.5, tried). So the
# question of one that is not known yet, but may be in a moment, waits, and is answered before that time.
HOLD_S = 1.0  # and until the next review
MAX_HELD = 1024
# How much later than its neighbours a node may come to know of another: the longest that a batch of joins waits for
# company, two stewards that do nothing, and the introduction that follows where all that is not enough.
STRANGER_GRACE_S = 10.0
MAX_STRANGERS = 1024
MAX_ADDRESSES = 1024

OK, RETRY, REFUSED = b"200", b"300", b"400"


@dataclass(frozen=True, slots=True)
class _Stranger:
    """Somebody with an unknown key, since when (monotonic seconds), where, and whence."""

    since: float
    domain: str
    address: str


@dataclass(frozen=True, slots=True)
class _Held:
    """A question that waits for its answer: the two frames by which libzmq knows it, and what it was about."""

    since: float
    request: tuple[bytes, bytes]
    key: bytes
    address: str


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
        self._held: list[_Held] = []  # in order of arrival
        self._admitted: dict[str, None] = {}  # addresses, the latest last
        self.accepted = 0
        self.refused = 0
        allowed.on_admitted = self._admit
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ZAP_ENDPOINT)

    def has_admitted(self, address: str) -> bool:
        """Whether somebody has been let in from there, or from anywhere if ``address`` is "", as far as remembered."""
        return address in self._admitted or (not address and bool(self._admitted))

    def review(self) -> None:
        """Turn away those who wait in vain, and report those whose key is unknown all this time.

        Not at once: a node that has just joined or restarted knows nobody, and others write to it before it has heard
        of them.
        """
        now = self._clock()
        self._settle([held for held in self._held if held.since <= now - HOLD_S])
        long_ago = now - STRANGER_GRACE_S
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
                answer = self._decide(frames)
                if answer is not None:
                    self._answer((frames[0], frames[3]), *answer)

    def _answer(self, request: tuple[bytes, bytes], status: bytes, user_id: bytes) -> None:
        self.socket.send_multipart([request[0], b"", ZAP_VERSION, request[1], status, b"", user_id, b""])

    def _admit(self, admitted: Admitted) -> None:
        """Somebody has become known, who may be waiting."""
        self._settle([held for held in self._held if held.key == admitted.curve_public])

    def _settle(self, settled: list[_Held]) -> None:
        for held in settled:
            self._held.remove(held)
            admitted = self._allowed.by_key(held.key)
            if admitted is None:
                self._answer(held.request, *self._turn_away())
            else:
                self._answer(held.request, *self._decide_known(admitted, held.address))

    def _decide(self, frames: list[bytes]) -> tuple[bytes, bytes] | None:
        """The answer; None if it is to wait."""
        domain, address = frames[4].decode("utf-8", "replace"), frames[5].decode("utf-8", "replace")
        address = address.removeprefix("::ffff:")  # how a socket for both families writes IPv4
        if frames[7] != b"CURVE" or len(frames) != REQUEST_FRAMES or len(frames[8]) != KEY_BYTES:
            return self._refuse(REFUSED, "refused_mechanism", address, f"a client of {domain} does not speak CURVE")
        if domain not in ZAP_DOMAINS:
            return self._refuse(REFUSED, "refused_domain", address, f"the domain {domain!r} is not one of zmesh's")
        key = z85_encode(frames[8])
        if domain == ZAP_DOMAINS[0]:
            return self._accept(address, key)
        admitted = self._allowed.by_key(key)
        if admitted is not None:
            return self._decide_known(admitted, address)
        if len(self._strangers) < MAX_STRANGERS:
            self._strangers.setdefault(key, _Stranger(self._clock(), domain, address))
        if len(self._held) >= MAX_HELD:
            return self._turn_away()
        self._held.append(_Held(self._clock(), (frames[0], frames[3]), key, address))
        return None

    def _turn_away(self) -> tuple[bytes, bytes]:
        self.refused += 1
        return RETRY, b""  # not final: it may be introduced a moment later

    def _decide_known(self, admitted: Admitted, address: str) -> tuple[bytes, bytes]:
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

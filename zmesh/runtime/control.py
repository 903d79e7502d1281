"""The control plane: a thread with sockets of its own, where membership lives, apart from bulk and from handlers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import zmq

from zmesh.config import Timings
from zmesh.core.membership.member import AgentRecord, NodeRecord
from zmesh.errors import check
from zmesh.model import now_ms
from zmesh.runtime.admission import AllowList
from zmesh.runtime.control_loop import ControlLoop, Trust
from zmesh.runtime.control_notices import (
    ControlNotice,
    ControlStatistics,
    IncidentLog,
    IncidentNotice,
    PeerNotice,
)
from zmesh.runtime.ports import BoundSockets
from zmesh.runtime.signs import Signs
from zmesh.runtime.zap import ZapHandler
from zmesh.security import Authority, Identity, Verifier

__all__ = ["ControlNotice", "ControlPlane", "ControlStatistics", "IncidentNotice", "PeerNotice"]

JOIN_TIMEOUT_S = 10.0


class ControlPlane:
    """Made before any CURVE socket is bound, because its ZAP handler is what lets anybody in."""

    def __init__(
        self,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        identity: Identity,
        verifier: Verifier,
        timings: Timings,
        authority: Authority | None,
        notify: Callable[[ControlNotice], None],
        seed: int,
        signs: Signs | None = None,
    ) -> None:
        """``notify`` gets every notice, on the control thread. ``signs``: who is heard on the data plane."""
        self._context = context
        self._trust = Trust(identity, verifier, authority)
        self._timings = timings
        self._notify = notify
        self._seed = seed
        self._signs = signs or Signs()
        self._incidents = IncidentLog(notify)
        self._allowed = AllowList()
        self._zap = ZapHandler(context, self._allowed, self._incidents, now_ms, time.monotonic)
        self._loop: ControlLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, bound: BoundSockets, record: NodeRecord) -> None:
        """Begin to serve: takes over ``bound.introduction``, ``bound.control`` and the monitors."""
        check(self._thread is None, "the control plane was started twice")
        self._loop = ControlLoop(
            self._context,
            self._trust,
            self._timings,
            bound,
            record,
            self._zap,
            self._allowed,
            self._incidents,
            self._notify,
            self._seed,
            self._signs,
        )
        # Starting a thread is the full fence that ZeroMQ wants where sockets change hands.
        self._thread = threading.Thread(target=self._loop.run, name="zmesh-control", daemon=True)
        self._thread.start()

    def update_record(
        self,
        *,
        agents: tuple[AgentRecord, ...] | None = None,
        hosts: tuple[str, ...] | None = None,
        certificate: bytes | None = None,
        maintenance: bool | None = None,
        publishes: bool | None = None,
    ) -> None:
        """Change what this node says of itself, and tell the mesh. Safe from any thread.

        Every agent must have passed ``zmesh.wire.record.check_agent``: else peers refuse the whole record.
        """
        self._call(lambda loop: loop.update_record(agents, hosts, certificate, maintenance, publishes))

    def dial(self, addresses: Sequence[tuple[str, int]], persistent: bool) -> None:
        """Meet whoever answers there; ``persistent``: again and again while nobody does. Safe from any thread."""
        self._call(lambda loop: loop.dial(addresses, persistent))

    def find(self, node_id: str) -> None:
        """Look for the way to a member: a notice tells where it was reached. Safe from any thread."""
        self._call(lambda loop: loop.find(node_id))

    def disconnected(self, node_id: str) -> None:
        """A data connection with that node broke: ask it whether it lives. Safe from any thread."""
        self._call(lambda loop: loop.disconnected(node_id))

    def last_heard_ms(self, node_id: str) -> int | None:
        """When the node was last heard of (see ``NodeInfo``), in ms since the epoch. Safe from any thread."""
        return self._loop.members.last_heard_ms(node_id) if self._loop is not None else None

    def stop(self, *, goodbye: bool) -> None:
        """End the thread and close its sockets; others are told if ``goodbye``. Blocks for a moment."""
        if self._thread is None:
            self._zap.socket.close(0)
            return
        self._call(lambda loop: loop.stop(goodbye))
        self._thread.join(JOIN_TIMEOUT_S)
        check(not self._thread.is_alive(), "the control thread did not end")

    def statistics(self) -> ControlStatistics:
        """The counters. Safe from any thread."""
        loop = self._loop
        return ControlStatistics(
            frames_sent=loop.links.sent if loop is not None else 0,
            frames_received=loop.members.received if loop is not None else 0,
            frames_unsent=loop.links.unsent if loop is not None else 0,
            keys_accepted=self._zap.accepted,
            keys_refused=self._zap.refused,
            dials_opened=loop.meetings.opened if loop is not None else 0,
            introductions=loop.meetings.completed if loop is not None else 0,
            enrolments=loop.server.enrolments if loop is not None else 0,
            incidents=self._incidents.counts(),
            members=loop.members.view_size if loop is not None else 0,
            view_digest=loop.members.view_digest if loop is not None else 0,
        )

    def _call(self, action: Callable[[ControlLoop], None]) -> None:
        loop = self._loop
        if loop is not None:
            loop.call(lambda: action(loop))

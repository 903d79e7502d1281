"""What runs on the control thread: members, meetings, ZAP and the watch over the ports, on one poll."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import zmq

from zmesh.config import Timings
from zmesh.core.membership.member import AgentRecord, NodeRecord
from zmesh.model import now_ms
from zmesh.runtime.admission import AllowList
from zmesh.runtime.control_links import Links
from zmesh.runtime.control_listeners import ListenerWatch
from zmesh.runtime.control_meetings import Meetings
from zmesh.runtime.control_members import Members
from zmesh.runtime.control_notices import ControlNotice, IncidentLog
from zmesh.runtime.control_parts import MemberParts
from zmesh.runtime.control_reactor import Reactor
from zmesh.runtime.introduction import IntroductionServer
from zmesh.runtime.ports import BoundSockets
from zmesh.runtime.signs import Signs
from zmesh.runtime.zap import ZapHandler
from zmesh.security import Authority, Identity, Verifier

__all__ = ["ControlLoop", "Trust"]

logger = logging.getLogger("zmesh.control")

GOODBYE_S: Final = 0.5  # what is said last waits so long for connections that are not up yet
REVIEW_INTERVAL_S: Final = 1.0  # strangers and connections that do not come up are looked at this often


@dataclass(frozen=True, slots=True)
class Trust:
    """Who this node is, and by whose word it knows others."""

    identity: Identity
    verifier: Verifier
    authority: Authority | None  # where the mesh was founded on this machine


class ControlLoop:
    """Owns the control thread's sockets. Everything but ``call`` and the counters is for that thread alone."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        trust: Trust,
        timings: Timings,
        bound: BoundSockets,
        record: NodeRecord,
        zap: ZapHandler,
        allowed: AllowList,
        incidents: IncidentLog,
        notify: Callable[[ControlNotice], None],
        seed: int,
        signs: Signs,
    ) -> None:
        self._bound = bound
        self._zap = zap
        self._allowed = allowed
        self._incidents = incidents
        self._trust = trust
        self._timings = timings
        self._chance = random.Random(seed)
        self._signs = signs
        self._reactor = Reactor()
        self.links = Links(context, trust.identity, self._reactor, time.monotonic, self.disconnected)
        self.members = self._make_members(record, notify)
        self.meetings = self._make_meetings(context)
        self.members.connect(self.meetings.meet, self.meetings.lost)
        self.server = self._make_server()
        self._listeners: list[ListenerWatch] = []
        self._review_at = 0.0
        self._ends_at = float("inf")
        self._says_goodbye = False

    def _make_members(self, record: NodeRecord, notify: Callable[[ControlNotice], None]) -> Members:
        parts = MemberParts(
            record=record,
            timings=self._timings,
            chance=self._chance,
            router=self._bound.control,
            links=self.links,
            identity=self._trust.identity,
            verifier=self._trust.verifier,
            allowed=self._allowed,
            incidents=self._incidents,
            reactor=self._reactor,
            clock=time.monotonic,
            notify=notify,
            signs=self._signs,
        )
        return Members(parts)

    def _make_meetings(self, context: zmq.Context[zmq.Socket[bytes]]) -> Meetings:
        return Meetings(
            context=context,
            identity=self._trust.identity,
            verifier=self._trust.verifier,
            timings=self._timings,
            chance=self._chance,
            reactor=self._reactor,
            members=self.members,
            allowed=self._allowed,
            incidents=self._incidents,
            clock=time.monotonic,
        )

    def _make_server(self) -> IntroductionServer:
        trust = self._trust
        return IntroductionServer(
            self._bound.introduction,
            trust.identity,
            trust.verifier,
            trust.authority,
            self._incidents,
            now_ms,
            self.meetings.admit,
        )

    # -- the thread --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until ``stop``."""
        self._watch_sockets()
        try:
            while not self._has_ended():
                self._guarded(self._handle_timeouts)
                for action in self._reactor.wait(self._patience_s()):
                    self._guarded(action)
        finally:
            self._close()

    def call(self, action: Callable[[], None]) -> None:
        """Run ``action`` on the control thread. Safe from any thread."""
        self._reactor.call(action)

    def stop(self, goodbye: bool) -> None:
        """Leave, telling the others if ``goodbye``; ``run`` returns afterwards, when that is on its way."""
        self._ends_at = time.monotonic()
        if goodbye:
            self._says_goodbye = True
            self._ends_at += GOODBYE_S
            self.links.drop_waiting()
            self.members.leave()

    def _has_ended(self) -> bool:
        return self._ends_at < float("inf") and (not self.links.has_waiting or self._ends_at <= time.monotonic())

    def update_record(
        self,
        agents: tuple[AgentRecord, ...] | None = None,
        hosts: tuple[str, ...] | None = None,
        certificate: bytes | None = None,
        maintenance: bool | None = None,
        publishes: bool | None = None,
    ) -> None:
        """Change what is given in this node's own record."""
        old = self.members.record
        self.members.update_record(
            replace(
                old,
                version=old.version + 1,
                agents=old.agents if agents is None else agents,
                hosts=old.hosts if hosts is None else hosts,
                certificate=old.certificate if certificate is None else certificate,
                maintenance=old.maintenance if maintenance is None else maintenance,
                publishes=old.publishes if publishes is None else publishes,
            )
        )

    def dial(self, addresses: Iterable[tuple[str, int]], persistent: bool) -> None:
        """Meet whoever answers there."""
        for host, port in addresses:
            self.meetings.dial(host, port, persistent=persistent)

    def find(self, node_id: str) -> None:
        """Look for the way to a member."""
        self.members.find(node_id)

    def disconnected(self, node_id: str) -> None:
        """A connection with that node broke."""
        self.members.disconnected(node_id)

    def _watch_sockets(self) -> None:
        # Frames before monitors: what a node said before its connection closed is heard before that it closed.
        self._reactor.watch(self._zap.socket, self._zap.handle)
        self._reactor.watch(self._bound.introduction, self.server.handle)
        self._reactor.watch(self._bound.control, self.members.handle_frames)
        closed = (_ignore, self.members.connection_closed, _ignore, _ignore)
        for number, monitor in enumerate(self._bound.monitors):
            port = self._bound.base_port + number
            watch = ListenerWatch(monitor, port, self._incidents, self._zap.has_admitted, closed[number])
            self._listeners.append(watch)
            self._reactor.watch(monitor.reader, watch.handle)

    def _guarded(self, action: Callable[[], None]) -> None:
        """One task that fails must not end the heartbeats of a node."""
        try:
            action()
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            if self._incidents.report(
                "internal_error", what, f"a task of the control plane failed, which is our bug: {what}"
            ):
                logger.exception("the control plane goes on after an error that should be reported to us")

    def _patience_s(self) -> float:
        deadlines = (self.members.next_deadline(), self.meetings.next_deadline(), self._review_at, self._ends_at)
        return max(0.0, min(at for at in deadlines if at is not None) - time.monotonic())

    def _handle_timeouts(self) -> None:
        for machine in (self.members, self.meetings):
            due = machine.next_deadline()
            if (due is None and machine is self.members) or (due is not None and due <= time.monotonic()):
                machine.handle_timeout()
        if self._review_at <= time.monotonic():
            self._review_at = time.monotonic() + REVIEW_INTERVAL_S
            self._zap.review()
            self.links.review()
            for listener in self._listeners:
                listener.review()
            self._incidents.review()

    def _close(self) -> None:
        self.links.close_all(flush=self._says_goodbye)
        self.meetings.close()
        self.members.close()
        for monitor in self._bound.monitors:
            monitor.close()
        for bound in (self._bound.introduction, self._bound.control, self._zap.socket):
            bound.close(linger=0)
        self._reactor.close()


def _ignore(_descriptor: int) -> None:
    """A connection to one of the other ports says nothing about its node's life."""

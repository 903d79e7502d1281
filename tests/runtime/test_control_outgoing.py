"""What is not said to newcomers until they have spoken: what comes again anyway (docs/design/03, in the runtime)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq

from tests.runtime.control_mesh import Mesh
from zmesh.core.membership.member import Contact
from zmesh.core.membership.messages import (
    Answer,
    Ask,
    Body,
    Fetch,
    Heartbeat,
    Hello,
    MembershipMessage,
    Notice,
    Petition,
    Pull,
    Records,
    Refusal,
    Vouch,
)
from zmesh.core.membership.statements import Alive, Charge
from zmesh.model import now_ms
from zmesh.runtime import control_outgoing
from zmesh.runtime.admission import AllowList
from zmesh.runtime.control_links import Links
from zmesh.runtime.control_notices import IncidentLog
from zmesh.runtime.control_outgoing import NEWCOMER_S, Outgoing
from zmesh.runtime.control_reactor import Reactor
from zmesh.runtime.control_ways import Ways
from zmesh.security import Verifier
from zmesh.wire.membership import decode_membership

B = Contact("b", 5, ("127.0.0.1",), 1, "")  # where nobody listens: all that is sent to it waits in its link
ALIVE = Alive(B, 0, 1, b"h" * 16, b"certificate", b"s" * 64)
COMES_AGAIN: list[MembershipMessage] = [Heartbeat(1, 1, 7), Hello(ALIVE, 7, 2), Notice(7, 2), Pull(7)]
IS_SAID_ONCE: list[MembershipMessage] = [
    Answer(1, 7),
    Petition(0, (ALIVE,)),
    Ask("c", 1, 0, Charge.SILENT),
    Vouch("c", 1, 0, Charge.SILENT),
    Body(0, 7, (ALIVE,)),
    Refusal("duplicate_name", 5),
    Fetch((("b", b"h" * 16),)),
    Records((("b", b"record"),)),
]


@dataclass
class Sending:
    """What node ``a`` says to ``b``, of which it knows the way."""

    outgoing: Outgoing
    links: Links
    now: float = 0.0

    def said(self, *messages: MembershipMessage) -> list[MembershipMessage]:
        """Send these; all that waits in the link then."""
        for message in messages:
            self.outgoing.send(B, message, is_member=True)
        link = self.links._links.get("b")
        return [] if link is None else [decode_membership(frame) for frame in link.waiting.values()]


@pytest.fixture
def sending(tmp_path: Path) -> Iterator[Sending]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    reactor, mesh, allowed = Reactor(), Mesh(tmp_path, "lab"), AllowList()
    a, b = mesh.identity("a"), mesh.identity("b")
    allowed.admit(Verifier(a.mesh_id, a.authority_public).verify(b.certificate, now_ms()), b.certificate)
    links = Links(context, a, reactor, time.monotonic, lambda node_id: None)
    ways = Ways(links, allowed, lambda: found.now, 2.0)
    found = Sending(Outgoing("a", ways, IncidentLog(lambda notice: None), lambda: found.now), links)
    yield found
    links.close_all(flush=False)
    reactor.close()
    context.term()


def test_who_is_no_newcomer_is_told_everything(sending: Sending) -> None:
    assert sending.said(*COMES_AGAIN, *IS_SAID_ONCE) == [*COMES_AGAIN, *IS_SAID_ONCE]


@pytest.mark.parametrize("message", COMES_AGAIN, ids=lambda message: type(message).__name__)
def test_what_comes_again_is_not_said_to_a_newcomer(sending: Sending, message: MembershipMessage) -> None:
    """It has no view yet: it would not let us in, and each attempt costs both a handshake."""
    sending.outgoing.joined("b")
    assert sending.said(message) == []
    sending.now = NEWCOMER_S - 0.01
    assert sending.said(message) == []


def test_what_is_said_once_waits_for_a_newcomer(sending: Sending) -> None:
    """The view that it has pulled above all."""
    sending.outgoing.joined("b")
    assert sending.said(*IS_SAID_ONCE) == IS_SAID_ONCE


@pytest.mark.parametrize("message", COMES_AGAIN, ids=lambda message: type(message).__name__)
def test_it_is_a_newcomer_until_it_speaks_or_for_three_seconds(sending: Sending, message: MembershipMessage) -> None:
    sending.outgoing.joined("b")
    sending.outgoing.joined("c")
    sending.outgoing.knows_us("c")
    assert sending.said(message) == [], "another has spoken"
    sending.outgoing.knows_us("b")
    assert sending.said(message) == [message]
    sending.outgoing.joined("b")
    sending.now += NEWCOMER_S
    sending.links.close("b")
    assert sending.said(message) == [message]


def test_newcomers_are_written_to_in_vain_where_the_rule_is_off(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ablation."""
    monkeypatch.setattr(control_outgoing, "NEWCOMER_S", 0.0)
    sending.outgoing.joined("b")
    assert sending.said(*COMES_AGAIN) == COMES_AGAIN

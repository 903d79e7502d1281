"""What the process is told of members, and what must be here before it is: statement, record, way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import zmq

from tests.runtime.control_mesh import Mesh
from zmesh.core.membership.member import MemberEventKind, NodeRecord, contact_of
from zmesh.core.membership.messages import Notice
from zmesh.core.membership.records import record_hash_of
from zmesh.core.membership.statements import Alive
from zmesh.errors import ProtocolViolation
from zmesh.runtime.admission import AllowList
from zmesh.runtime.control_links import Links
from zmesh.runtime.control_notices import PeerNotice
from zmesh.runtime.control_reactor import Reactor
from zmesh.runtime.control_telling import Telling
from zmesh.runtime.peer import Route
from zmesh.wire.membership import encode_membership
from zmesh.wire.record import encode_record

Kind = MemberEventKind
RECORD = NodeRecord("b", 5, 1, b"certificate", "", ("127.0.0.1",), 7650, 7651, 7652, 7653)


def alive(record: NodeRecord, version: int = 1) -> Alive:
    return Alive(contact_of(record), 0, version, record_hash_of(data(record)), record.certificate)


def data(record: NodeRecord) -> bytes:
    return encode_record(record)


@dataclass
class Told:
    telling: Telling
    links: Links
    notices: list[PeerNotice]
    is_wide: bool = False

    @property
    def kinds(self) -> list[Kind]:
        return [notice.event.kind for notice in self.notices]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    reactor = Reactor()
    notices: list[PeerNotice] = []
    links = Links(context, Mesh(tmp_path, "lab").identity("a"), reactor, time.monotonic, lambda node_id: None)
    told = Told(Telling(links, AllowList(), notices.append, lambda: told.is_wide), links, notices)
    yield told
    reactor.close()
    context.term()


def meet(told: Told) -> None:
    told.links.set_route("b", Route("127.0.0.1", 7651, b"key"))
    told.telling.settle("b")


def test_a_member_is_told_of_when_its_record_and_a_way_to_it_are_here(told: Told) -> None:
    told.telling.member(Kind.JOINED, alive(RECORD), "")
    told.telling.member(Kind.SUSPECTED, alive(RECORD), "silent")
    told.telling.record(alive(RECORD), data(RECORD))
    assert told.notices == []
    assert [a.node_id for a in told.telling.without_a_way()] == ["b"]
    meet(told)
    assert [(n.event.kind, n.event.record, n.host) for n in told.notices] == [(Kind.JOINED, RECORD, "127.0.0.1")]
    assert list(told.telling.without_a_way()) == []


def test_who_goes_before_it_was_told_of_was_never_there(told: Told) -> None:
    told.telling.member(Kind.JOINED, alive(RECORD), "")
    told.telling.member(Kind.DIED, alive(RECORD), "silent")
    told.telling.record(alive(RECORD), data(RECORD))
    meet(told)
    assert told.notices == []


def test_what_became_of_it_is_told_in_order_and_with_the_record_of_the_time(told: Told) -> None:
    changed, again = replace(RECORD, version=2, maintenance=True), replace(RECORD, incarnation=6)
    meet(told)
    for kind, record in ((Kind.JOINED, RECORD), (Kind.CHANGED, changed), (Kind.RESTARTED, again)):
        told.telling.member(kind, alive(record, record.version), "")
        told.telling.record(alive(record, record.version), data(record))
    told.telling.member(Kind.SUSPECTED, alive(again), "silent")
    told.telling.member(Kind.RECOVERED, alive(again), "heard")
    told.telling.member(Kind.LEFT, alive(again), "goodbye")
    assert told.kinds == [Kind.JOINED, Kind.CHANGED, Kind.RESTARTED, Kind.SUSPECTED, Kind.RECOVERED, Kind.LEFT]
    assert [n.event.record for n in told.notices] == [RECORD, changed, again, again, again, again]


def test_a_restart_is_told_even_if_it_changes_before_its_record_is_here(told: Told) -> None:
    meet(told)
    told.telling.member(Kind.JOINED, alive(RECORD), "")
    told.telling.record(alive(RECORD), data(RECORD))
    again, changed = replace(RECORD, incarnation=6), replace(RECORD, incarnation=6, version=2)
    told.telling.member(Kind.RESTARTED, alive(again), "")
    told.telling.member(Kind.CHANGED, alive(changed, 2), "")
    told.telling.record(alive(changed, 2), data(changed))
    assert told.kinds == [Kind.JOINED, Kind.RESTARTED]
    assert told.notices[-1].event.record == changed


def test_one_that_was_removed_and_comes_back_as_itself_has_recovered(told: Told) -> None:
    meet(told)
    for kind in (Kind.JOINED, Kind.DIED, Kind.RECOVERED):
        told.telling.member(kind, alive(RECORD), "")
        told.telling.record(alive(RECORD), data(RECORD))
    assert told.kinds == [Kind.JOINED, Kind.DIED, Kind.RECOVERED]


@pytest.mark.parametrize(
    "wrong",
    [
        data(replace(RECORD, node_id="c")),
        data(replace(RECORD, incarnation=4)),
        data(replace(RECORD, certificate=b"another")),
        encode_membership(Notice(1, 1)),
        b"\x01nonsense",
    ],
)
def test_a_record_that_is_not_of_the_node_that_states_it_is_refused(told: Told, wrong: bytes) -> None:
    meet(told)
    told.telling.member(Kind.JOINED, alive(RECORD), "")
    with pytest.raises(ProtocolViolation):
        told.telling.record(alive(RECORD), wrong)
    assert told.notices == []


def test_in_a_wide_mesh_a_member_is_told_of_without_a_way_and_once_there_is_one_again(told: Told) -> None:
    told.is_wide = True
    told.telling.member(Kind.JOINED, alive(RECORD), "")
    assert told.notices == []
    told.telling.record(alive(RECORD), data(RECORD))
    told.telling.settle("b")
    assert [(n.event.kind, n.host, n.is_wide) for n in told.notices] == [(Kind.JOINED, "", True)]
    told.telling.member(Kind.SUSPECTED, alive(RECORD), "silent")
    assert [a.node_id for a in told.telling.without_a_way()] == ["b"]
    meet(told)
    meet(told)
    assert [(n.event.kind, n.host) for n in told.notices[1:]] == [(Kind.SUSPECTED, ""), (Kind.CHANGED, "127.0.0.1")]


def test_who_connects_is_told_of_a_way_although_the_suspicion_had_it(told: Told) -> None:
    told.is_wide = True
    told.telling.member(Kind.JOINED, alive(RECORD), "")
    told.telling.record(alive(RECORD), data(RECORD))
    told.links.set_route("b", Route("127.0.0.1", 7651, b"key"))
    told.telling.member(Kind.SUSPECTED, alive(RECORD), "silent")
    told.telling.settle("b")
    assert told.kinds == [Kind.JOINED, Kind.SUSPECTED, Kind.CHANGED]


def test_who_waits_for_a_way_when_the_mesh_becomes_wide_is_told_of_without(told: Told) -> None:
    told.telling.member(Kind.JOINED, alive(RECORD), "")
    told.telling.record(alive(RECORD), data(RECORD))
    assert told.notices == []
    told.is_wide = True
    told.telling.settle("b")
    assert [(n.event.kind, n.host) for n in told.notices] == [(Kind.JOINED, "")]

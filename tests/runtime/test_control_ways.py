"""Ways to members: which cost nothing, which must be looked for, and when they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import zmq

from tests.runtime.control_mesh import Mesh
from zmesh.core.membership.member import Contact
from zmesh.model import now_ms
from zmesh.runtime.admission import AllowList
from zmesh.runtime.control_links import Links
from zmesh.runtime.control_reactor import Reactor
from zmesh.runtime.control_ways import Ways
from zmesh.runtime.peer import Route
from zmesh.security import Verifier

PLAIN = Contact("b", 5, ("127.0.0.1",), 7650, "")
SEVERAL = replace(PLAIN, hosts=("127.0.0.9", "127.0.0.1"))
PATIENCE_S = 2.0


@dataclass
class Looking:
    """Ways of node ``a``, which lets ``b`` in, and whom it has introduced itself to."""

    links: Links
    allowed: AllowList
    now: float = 0.0
    met: list[Contact] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ways = Ways(self.links, self.allowed, lambda: self.now, PATIENCE_S)
        self.ways.meet = self.met.append

    def reached_at(self, host: str) -> None:
        self.ways.met(SEVERAL, Route(host, 7651, b"key"))


@pytest.fixture
def looking(tmp_path: Path) -> Iterator[Looking]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    reactor, mesh, allowed = Reactor(), Mesh(tmp_path, "lab"), AllowList()
    a, b = mesh.identity("a"), mesh.identity("b")
    allowed.admit(Verifier(a.mesh_id, a.authority_public).verify(b.certificate, now_ms()), b.certificate)
    yield Looking(Links(context, a, reactor, time.monotonic, lambda node_id: None), allowed)
    reactor.close()
    context.term()


def test_the_statement_of_one_address_is_a_way_and_costs_nothing(looking: Looking) -> None:
    looking.ways.note(PLAIN)
    route = looking.links.route_of("b")
    assert route is not None
    assert (route.host, route.port, looking.met) == ("127.0.0.1", 7651, [])


def test_several_addresses_are_looked_for_on_need_alone(looking: Looking) -> None:
    looking.ways.note(SEVERAL)
    assert (looking.met, looking.links.route_of("b")) == ([], None)
    looking.ways.look(SEVERAL, is_member=True)
    looking.ways.look(SEVERAL, is_member=True)
    assert looking.met == [SEVERAL], "and no more often than it may be tried"
    looking.now = PATIENCE_S
    looking.ways.look(SEVERAL, is_member=True)
    assert looking.met == [SEVERAL] * 2


def test_one_that_had_a_way_and_states_others_is_looked_for_at_once(looking: Looking) -> None:
    looking.reached_at("127.0.0.1")
    looking.ways.note(SEVERAL)
    assert looking.met == []
    moved = replace(SEVERAL, hosts=("127.0.0.2", "127.0.0.3"))
    looking.ways.note(moved)
    assert looking.met == [moved]


def test_a_connection_that_closes_is_a_reason_to_look_where_there_was_a_way(looking: Looking) -> None:
    looking.ways.doubt(SEVERAL)
    assert looking.met == [], "it was the node that connected, to somebody who has nothing to send to it"
    looking.reached_at("127.0.0.1")
    looking.ways.doubt(SEVERAL)
    assert looking.met == [SEVERAL]


def test_a_rival_has_a_way_of_its_own_until_it_is_settled_whose_name_it_is(looking: Looking) -> None:
    """Else it would be asked, in the member's place, whether the member lives."""
    looking.reached_at("127.0.0.1")
    looking.ways.incarnation_of = {"b": SEVERAL.incarnation}.get
    rival = replace(SEVERAL, incarnation=SEVERAL.incarnation + 1)
    looking.ways.met(rival, Route("127.0.0.2", 7651, b"key"))
    hosts = [route.host for name in ("b", looking.ways.name_of(rival)) if (route := looking.links.route_of(name))]
    assert hosts == ["127.0.0.1", "127.0.0.2"]
    looking.ways.settled("b")
    assert looking.links.route_of(looking.ways.name_of(rival)) is None
    assert looking.links.route_of("b") is not None

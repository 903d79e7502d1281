"""The control plane of a mesh in which nodes watch some of the others only; and knocks."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from tests.runtime.control_mesh import Mesh, Node, wait_for, wait_until_all_see_all
from zmesh.config import PRESETS as TIMINGS
from zmesh.config import Timings
from zmesh.core.membership import view
from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import AgentRecord
from zmesh.core.membership.messages import KnockOutcome
from zmesh.core.membership.settings import PRESETS
from zmesh.runtime.control_knocks import MAX_KNOCKS, Knocks
from zmesh.runtime.control_loop import ControlLoop
from zmesh.runtime.control_members import Members
from zmesh.runtime.control_reactor import Reactor
from zmesh.runtime.control_settings import membership_settings
from zmesh.runtime.control_ways import Ways
from zmesh.runtime.peer import Route

NODES = 10


@pytest.fixture
def wide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Node]]:
    """Ten nodes of which each watches some of the others, as in large meshes; all know the first."""
    monkeypatch.setitem(PRESETS, "lan", replace(PRESETS["lan"], near_size=4))
    mesh = Mesh(tmp_path, "lab")
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(mesh.identity(f"n{number}"))) for number in range(NODES)]
        for node in nodes[1:]:
            node.dial(nodes[0])
        wait_until_all_see_all(*nodes)
        yield nodes


def test_all_know_all_by_their_records_and_a_killed_one_is_dead_for_all(wide: list[Node]) -> None:
    for node in wide:
        for other in wide:
            if other is not node:
                notice = node.last(other.name)
                assert notice.event.record.agents == other.record.agents
                assert (notice.host, notice.curve_public) == ("127.0.0.1", other.identity.curve_public)
                assert notice.fingerprint == other.identity.fingerprint
    wide[3].stop(goodbye=False)
    rest = [node for node in wide if node is not wide[3]]
    for node in rest:
        wait_for(lambda n=node: n.kinds("n3")[-1] == "died", "n3 is dead")  # type: ignore[misc]
    assert [node.kinds(other.name) for node in rest for other in rest if "died" in node.kinds(other.name)] == []


def test_a_large_record_reaches_all_and_a_goodbye_too(wide: list[Node]) -> None:
    agents = tuple(AgentRecord(number, (), {"of": "x" * 4096}) for number in range(250))
    wide[5].plane.update_record(agents=agents)
    rest = [node for node in wide if node is not wide[5]]
    for node in rest:
        wait_for(lambda n=node: n.last("n5").event.record.agents == agents, "the record is there")  # type: ignore[misc]
    wide[5].stop(goodbye=True)
    for node in rest:
        wait_for(lambda n=node: n.kinds("n5")[-1] == "left", "n5 has left")  # type: ignore[misc]
        assert "died" not in node.kinds("n5")


def test_a_goodbye_reaches_a_steward_that_there_is_no_connection_to(wide: list[Node]) -> None:
    """Who leaves tells its neighbours as well, but those act 4 s later at the soonest."""
    view = members_of(wide[0]).view
    by_name = {node.name: node for node in wide}
    pairs = [(node.name, steward) for node in wide for steward in view.stewards() if steward != node.name]
    leaver, steward = next(pair for pair in pairs if pair[1] not in view.neighbours(pair[0]))
    links = loop_of(by_name[leaver]).links
    loop_of(by_name[leaver]).call(lambda: links.close(steward))
    wait_for(lambda: steward not in links._links, "the connection is closed")
    heard = by_name[steward].plane.last_heard_ms(leaver) or 0
    by_name[leaver].stop(goodbye=True)
    wait_for(lambda: (by_name[steward].plane.last_heard_ms(leaver) or 0) > heard, "the steward is told")


def test_of_those_that_others_watch_it_is_known_when_a_neighbour_confirmed_them(wide: list[Node]) -> None:
    """When a node was last heard does not stand still because somebody else hears it."""
    view = members_of(wide[0]).view
    unwatched = [name for name in view.members if name != "n0" and name not in view.neighbours("n0")]
    assert unwatched
    heard = {name: wide[0].plane.last_heard_ms(name) or 0 for name in unwatched}
    for name in unwatched:
        wait_for(lambda n=name: (wide[0].plane.last_heard_ms(n) or 0) > heard[n] + 1000, "it goes on")  # type: ignore[misc]
    wide[1].stop(goodbye=True)
    wait_for(lambda: wide[0].kinds("n1")[-1] == "left", "n1 has left")
    last = wide[0].plane.last_heard_ms("n1")
    other = next(name for name in unwatched if name != "n1")
    heard[other] = wide[0].plane.last_heard_ms(other) or 0
    wait_for(lambda: (wide[0].plane.last_heard_ms(other) or 0) > heard[other], "the view is confirmed again")
    assert wide[0].plane.last_heard_ms("n1") == last, "nobody confirms who is no member"


def loop_of(node: Node) -> ControlLoop:
    loop = node.plane._loop
    assert loop is not None
    return loop


def members_of(node: Node) -> Membership:
    members = loop_of(node).members
    assert isinstance(members, Members)
    return members._machine


STATED = ("127.0.0.9", "127.0.0.1")  # nobody listens at the first


def ways_known(nodes: list[Node]) -> int:
    return sum(bool(node.last(other.name).host) for node in nodes for other in nodes if other is not node)


@pytest.fixture
def wide_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Node]]:
    """Control planes that state two addresses each, and watch two others each, in a mesh that is wide from the start.

    They have not seen each other yet.
    """
    monkeypatch.setitem(PRESETS, "lan", replace(PRESETS["lan"], near_size=1))
    view._places.cache_clear()
    monkeypatch.setattr(view, "RINGS", 1)
    mesh = Mesh(tmp_path, "lab")
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(mesh.identity(f"n{number}"), hosts=STATED)) for number in range(16)]
        for node in nodes[1:]:
            node.dial(nodes[0])
        yield nodes
    view._places.cache_clear()


def test_in_a_wide_mesh_a_node_introduces_itself_to_few_and_to_others_on_need(wide_from_the_start: list[Node]) -> None:
    nodes = wide_from_the_start
    wait_until_all_see_all(*nodes)
    assert (
        ways_known(nodes) < 16 * 15
    )  # two neighbours each, and the stewards of the first views: more, where joins are slow
    pairs = ((node, other) for node in nodes for other in nodes if other is not node)
    asker, away = next((node, other) for node, other in pairs if not node.last(other.name).host)
    asker.plane.find(away.name)
    wait_for(lambda: asker.last(away.name).host == "127.0.0.1", "the way is found, at the address that answers")
    assert (asker.kinds(away.name)[-1], asker.last(away.name).is_wide) == ("changed", True)


def test_without_the_rule_every_node_introduces_itself_to_all(
    wide_from_the_start: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ways, "note", lambda ways, contact: ways.look(contact, is_member=True))
    nodes = wide_from_the_start[:12]
    wait_until_all_see_all(*nodes)
    wait_for(lambda: ways_known(nodes) == 12 * 11, "all know the way to all")


def test_two_meshes_become_one_when_one_node_is_pointed_at_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = Mesh(tmp_path, "lab")
    with ExitStack() as stack:
        a, b, c, d = [stack.enter_context(Node(mesh.identity(name))) for name in "abcd"]
        b.dial(a)
        d.dial(c)
        wait_until_all_see_all(a, b)
        wait_until_all_see_all(c, d)
        d.dial(a)
        wait_until_all_see_all(a, b, c, d)
        assert [node.incidents() for node in (a, b, c, d)] == [[], [], [], []]


def test_settings_follow_the_preset_or_the_times_given() -> None:
    for name, timings in TIMINGS.items():
        assert membership_settings(timings) == replace(PRESETS[name], forget_after_s=600.0)
        near = PRESETS[name].near
        times = (timings.heartbeat_interval_s, timings.suspect_after_s, timings.dead_after_s)
        assert times == (near.interval_s, near.suspect_after_s, near.accuse_after_s)
    chosen = membership_settings(Timings(0.3, 1.0, 5.0, forget_after_s=60.0))
    assert (chosen.near.interval_s, chosen.near.accuse_after_s, chosen.forget_after_s) == (0.3, 5.0, 60.0)


# -- knocks ------------------------------------------------------------------------------------------------------------


class Door:
    """Knocks on a reactor of their own, and what came of them."""

    def __init__(self, wait_s: float = 5.0) -> None:
        self.reactor = Reactor()
        self.now = 0.0
        self.answers: list[tuple[str, KnockOutcome]] = []
        self.knocks = Knocks(self.reactor, lambda: self.now, wait_s, lambda *answer: self.answers.append(answer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.knocks.close()
        self.reactor.close()

    def run(self) -> None:
        deadline = time.monotonic() + 10.0
        while not self.answers:
            assert time.monotonic() < deadline
            for action in self.reactor.wait(0.1):
                action()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_listened_on_is_open_and_another_refused(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with Door() as door, closing(socket.socket(family)) as server:
        server.bind((host, 0))
        port = server.getsockname()[1]
        door.knocks.knock("a", Route(host, port, b""))
        assert door.answers == [], "never from within the call"
        door.run()
        server.listen()
        door.knocks.knock("a", Route(host, port, b""))
        door.answers, before = [], door.answers
        door.run()
        assert (before, door.answers) == ([("a", KnockOutcome.REFUSED)], [("a", KnockOutcome.OPEN)])
        assert door.knocks.next_deadline() is None


@pytest.fixture
def deaf() -> Iterator[Route]:
    """A port whose queue is full: the kernel there answers nobody any more."""
    with closing(socket.socket()) as server, ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(2):
            filler = stack.enter_context(closing(socket.socket()))
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield Route(*server.getsockname(), b"")


def test_a_knock_that_nobody_answers_is_given_up_in_time_and_one_is_enough(deaf: Route) -> None:
    with Door() as door:
        door.knocks.knock("a", deaf)
        door.knocks.knock("a", deaf)
        assert door.knocks.next_deadline() == 5.0
        door.knocks.handle_timeout()
        assert door.answers == []
        door.now = 5.0
        door.knocks.handle_timeout()
        assert door.answers == [("a", KnockOutcome.SILENT)]


def test_knocks_are_no_more_than_so_many(deaf: Route) -> None:
    with Door() as door:
        for number in range(MAX_KNOCKS + 10):
            door.knocks.knock(f"n{number}", deaf)
        door.now = 5.0
        door.knocks.handle_timeout()
        assert door.answers == [(f"n{number}", KnockOutcome.SILENT) for number in range(MAX_KNOCKS)]

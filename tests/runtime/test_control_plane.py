"""Control planes over real sockets: they find each other, notice who goes and how, and refuse whoever is no member."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.control_mesh import Mesh, Node, wait_for, wait_until_all_see_all
from zmesh.config import PRESETS
from zmesh.core.membership.member import AgentRecord
from zmesh.runtime.control_ways import Ways


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path, "lab")


@pytest.fixture
def pair(mesh: Mesh) -> Iterator[tuple[Node, Node]]:
    with Node(mesh.identity("a")) as a, Node(mesh.identity("b")) as b:
        b.dial(a)
        wait_until_all_see_all(a, b)
        yield a, b


def test_two_find_each_other(pair: tuple[Node, Node]) -> None:
    a, b = pair
    notice = a.last("b")
    assert notice.host == "127.0.0.1"
    assert notice.curve_public == b.identity.curve_public
    assert notice.fingerprint == b.identity.fingerprint
    assert notice.event.record == b.record
    assert a.kinds("b") == b.kinds("a") == ["joined"]
    assert a.incidents() == b.incidents() == []
    wait_for(lambda: (a.plane.last_heard_ms("b") or 0) > 0, "a heartbeat of b")


def test_a_third_is_found_through_the_second(pair: tuple[Node, Node], mesh: Mesh) -> None:
    a, b = pair
    with Node(mesh.identity("c")) as c:
        c.dial(b)
        wait_until_all_see_all(a, b, c)
        assert [n.incidents() for n in (a, b, c)] == [[], [], []]


def test_a_record_reaches_the_others(pair: tuple[Node, Node]) -> None:
    a, b = pair
    for number in range(50):
        b.plane.update_record(agents=tuple(AgentRecord(n) for n in range(number + 1)))
    wait_for(lambda: len(a.last("b").event.record.agents) == 50, "all agents are known")
    b.plane.update_record(maintenance=True)
    wait_for(lambda: a.last("b").event.record.maintenance, "the maintenance is known")


def test_a_killed_node_is_noticed_before_its_silence_says_so(pair: tuple[Node, Node]) -> None:
    a, b = pair
    b.stop(goodbye=False)
    wait_for(lambda: a.kinds("b") == ["joined", "suspected", "died"], "b is dead")


def test_a_goodbye_is_no_death(pair: tuple[Node, Node]) -> None:
    a, b = pair
    b.stop(goodbye=True)
    wait_for(lambda: a.kinds("b") == ["joined", "left"], "b has left", timeout_s=2.0)


def test_a_restarted_node_is_known_by_its_new_incarnation(pair: tuple[Node, Node]) -> None:
    a, b = pair
    b.stop(goodbye=False)
    with Node(b.identity, port=b.port) as again:
        again.dial(a)
        wait_for(lambda: a.last("b").event.record.incarnation == again.record.incarnation, "the new incarnation")
        assert a.kinds("b")[-1] in ("restarted", "joined")  # by whether a had noticed that it was gone
        wait_for(lambda: again.kinds("a") == ["joined"], "b knows a")


def test_a_restarted_node_is_found_again_without_looking_for_anybody(pair: tuple[Node, Node]) -> None:
    a, b = pair
    b.stop(goodbye=False)
    wait_for(lambda: "died" in a.kinds("b"), "b is dead")
    with Node(b.identity, port=b.port) as again:  # dials nobody: a redials it
        wait_for(lambda: again.kinds("a") == ["joined"], "b knows a")
        wait_for(lambda: a.last("b").event.record.incarnation == again.record.incarnation, "a knows the new b")


def test_a_start_that_is_not_above_the_last_is_refused_and_both_sides_are_told(pair: tuple[Node, Node]) -> None:
    """A node's directory keeps its last incarnation, so that this takes a lost directory and a clock set back."""
    a, b = pair
    b.stop(goodbye=False)
    wait_for(lambda: "died" in a.kinds("b"), "b is dead")
    with Node(b.identity, incarnation=b.record.incarnation - 86_400_000) as again:
        again.dial(a)
        wait_for(lambda: again.incidents("refused_by_peer") and a.incidents("superseded"), "both are told")
        assert "clock" in again.incidents("refused_by_peer")[0].reason
        assert "clock" in a.incidents("superseded")[0].reason
        assert a.kinds("b")[-1] == "died"


def test_a_seed_is_dialled_until_it_is_there_and_again_after_it_was_gone(mesh: Mesh) -> None:
    timings = PRESETS["local"]
    with Node(mesh.identity("a"), timings=timings) as a:
        b = Node(mesh.identity("b"), timings=timings)
        port = b.port
        b.stop(goodbye=False)
        a.plane.dial([("127.0.0.1", port)], True)
        wait_for(lambda: a.incidents("seed_unanswered"), "the seed is reported")
        with Node(b.identity, port=port, timings=timings) as first:
            wait_for(lambda: a.sees(first), "a sees b")
            first.stop(goodbye=True)
        wait_for(lambda: a.kinds("b")[-1] == "left", "b has left")
        with Node(b.identity, port=port, timings=timings) as second:
            wait_for(lambda: a.last("b").event.record.incarnation == second.record.incarnation, "a sees b again")
        assert len(a.incidents("seed_unanswered")) == 1


def test_unreachable_addresses_cost_nothing_and_names_are_looked_up(mesh: Mesh) -> None:
    hosts = ("10.255.255.1", "192.0.2.7", "no.such.host.invalid", "127.0.0.1")
    with Node(mesh.identity("a"), hosts=hosts) as a, Node(mesh.identity("b"), hosts=hosts) as b:
        started = time.monotonic()
        b.plane.dial([("192.0.2.1", 7650), ("no.such.host.invalid", 7650), ("localhost", a.port)], True)
        wait_until_all_see_all(a, b)
        assert time.monotonic() - started < 3.0  # what ZeroMQ gives a single address that does not answer
        assert a.last("b").host == "127.0.0.1"
        wait_for(lambda: threads_named("zmesh-resolve") == [], "no lookup goes on")


def threads_named(prefix: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)]


def test_nodes_of_one_machine_meet_on_the_loopback(mesh: Mesh) -> None:
    hosts = ("192.0.2.7",)  # not reachable, as an address of a cable that was pulled
    with (
        Node(mesh.identity("a"), hosts=hosts, machine="m") as a,
        Node(mesh.identity("b"), hosts=hosts, machine="m") as b,
    ):
        b.dial(a)
        wait_until_all_see_all(a, b)


def test_a_node_that_dials_itself_takes_no_notice(mesh: Mesh) -> None:
    with Node(mesh.identity("a")) as a:
        a.dial(a)
        wait_for(lambda: a.plane.statistics().keys_accepted, "the dial arrived")
        with Node(mesh.identity("b")) as b:
            b.dial(a)
            wait_until_all_see_all(a, b)
        assert a.incidents() == []
        assert a.kinds("a") == []


def test_ipv6_and_every_interface(mesh: Mesh) -> None:
    with (
        Node(mesh.identity("a"), host="::1", hosts=("::1",)) as a,
        Node(mesh.identity("b"), host="*", hosts=("::1",)) as b,
        Node(mesh.identity("c"), hosts=("127.0.0.1",)) as c,
    ):
        b.plane.dial([("::1", a.port)], True)
        b.dial(c)
        wait_for(lambda: a.sees(b) and b.sees(a, c) and c.sees(b), "b sees both")
        assert a.last("b").host == "::1"
        assert c.last("b").host == "::1"


def test_the_moved_are_followed(pair: tuple[Node, Node]) -> None:
    a, b = pair
    b.plane.update_record(hosts=("127.0.0.2", "127.0.0.1"))  # bound to 127.0.0.1: only that will answer
    wait_for(lambda: a.last("b").event.record.hosts == ("127.0.0.2", "127.0.0.1"), "the new hosts", timeout_s=2.0)
    assert a.kinds("b")[0] == "joined"
    assert set(a.kinds("b")[1:]) == {"changed"}


def test_a_second_node_of_the_same_name_is_told_so(pair: tuple[Node, Node], mesh: Mesh) -> None:
    a, b = pair
    with Node(b.identity, incarnation=b.record.incarnation - 1000) as older:
        older.dial(a)
        wait_for(lambda: older.incidents("refused_by_peer"), "the older one is refused")
        assert "later" in older.incidents("refused_by_peer")[0].reason
        wait_for(lambda: a.incidents("superseded"), "a reports it")
        assert a.kinds("b") == ["joined"]


def wait_until_counted(node: Node, kind: str, count: int) -> None:
    wait_for(lambda: node.plane.statistics().incidents.get(kind, 0) >= count, f"{kind} {count} times")


@pytest.fixture
def three(mesh: Mesh) -> Iterator[tuple[Node, Node, Node]]:
    with Node(mesh.identity("a")) as a, Node(mesh.identity("b")) as b, Node(mesh.identity("c")) as c:
        b.dial(a)
        c.dial(a)
        wait_until_all_see_all(a, b, c)
        yield a, b, c


def test_a_copy_of_a_running_node_is_refused_however_often_it_asks(three: tuple[Node, Node, Node]) -> None:
    """It has the same keys and a later start. Who is asked is the node that runs, and that may be a steward itself."""
    a, b, c = three
    for number in range(1, 3):
        with Node(b.identity, incarnation=b.record.incarnation + number) as copy:
            copy.dial(a, c)
            wait_until_counted(copy, "duplicate_name", 3)
        assert a.kinds("b") == c.kinds("b") == ["joined"]
    assert a.incidents("duplicate_name")
    heard = a.plane.last_heard_ms("b") or 0
    wait_for(lambda: (a.plane.last_heard_ms("b") or 0) > heard, "b is still heard")
    assert set(b.kinds("a")) <= {"joined", "changed"}


def test_without_a_name_of_its_own_a_copy_takes_the_place_of_the_node(
    three: tuple[Node, Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ways, "name_of", lambda ways, contact: contact.node_id)
    a, b, c = three
    with Node(b.identity, incarnation=b.record.incarnation + 1) as copy:
        copy.dial(a, c)
        wait_for(lambda: "restarted" in a.kinds("b"), "the copy was asked whether the node lives")


def test_twenty_starts_leave_nothing(mesh: Mesh) -> None:
    identity = mesh.identity("a")
    with Node(mesh.identity("b")) as b:
        for number in range(20):
            with Node(identity) as a:
                a.dial(b)
                wait_for(lambda a=a: a.sees(b), "b is seen")  # type: ignore[misc]
                a.stop(goodbye=number % 2 == 0)
    assert threads_named("zmesh") == []

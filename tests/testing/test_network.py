"""Links and the rules that change them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from zmesh.errors import InternalError
from zmesh.testing import LAN, Conditions, Delay, Host, Process, Rule, World, between


class Ear(Process):
    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.heard: list[tuple[str, Any]] = []
        self.times: list[float] = []

    def receive(self, now: float, sender: str, message: Any) -> None:
        self.heard.append((sender, message))
        self.times.append(now)


def make(count: int = 2, conditions: Conditions = LAN, seed: int = 1) -> tuple[World, list[Host]]:
    world = World(seed, conditions=conditions)
    hosts = [world.add(f"n{i}", Ear) for i in range(count)]
    for host in hosts:
        host.start()
    return world, hosts


def heard(host: Host) -> list[Any]:
    assert isinstance(host.process, Ear)
    return [message for _, message in host.process.heard]


def send_many(world: World, source: Host, target: str, count: int, every_s: float = 0.0005) -> None:
    for number in range(count):
        world.after(number * every_s, source.send, target, number)
    world.run_for(count * every_s + 60.0)


@pytest.mark.parametrize(
    ("delay", "mean", "least", "most"),
    [
        (Delay.fixed(0.5), 0.5, 0.5, 0.5),
        (Delay.uniform(0.1, 0.3), 0.2, 0.1, 0.3),
        (Delay.exponential(0.1, 0.3), 0.3, 0.1, 2.0),
        (Delay.lognormal(0.1, 0.5), 0.113, 0.015, 0.6),
        (Delay.measured([0.3, 0.1, 0.1, 0.1]), 0.15, 0.1, 0.3),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_delays_are_distributed_as_they_say(delay: Delay, mean: float, least: float, most: float) -> None:
    world, (a, b) = make(conditions=Conditions(delay, reorder=1.0))
    for _ in range(4000):
        a.send("n1", 0)
    world.run_for(10.0)
    assert isinstance(b.process, Ear)
    times = b.process.times
    assert sum(times) / len(times) == pytest.approx(mean, rel=0.05)
    assert least <= min(times)
    assert max(times) <= most
    assert delay.least_s == pytest.approx(min(times), rel=0.5)


def test_a_link_keeps_the_order_unless_it_reorders() -> None:
    world, (a, b) = make(conditions=Conditions(Delay.exponential(0.0, 0.05)))
    send_many(world, a, "n1", 500)
    assert heard(b) == list(range(500))
    world.network.apply(Rule(reorder=0.3, reorder_s=0.1))
    send_many(world, a, "n1", 500)
    again = heard(b)[500:]
    assert sorted(again) == list(range(500))
    assert again != sorted(again)


def test_messages_are_lost_and_duplicated_as_often_as_said() -> None:
    world, (a, b) = make()
    world.network.apply(Rule(loss=0.2, duplicate=0.1))
    send_many(world, a, "n1", 5000)
    counts = Counter(heard(b))
    assert 5000 - len(counts) == world.network.lost == pytest.approx(1000, rel=0.15)
    assert sum(count == 2 for count in counts.values()) == world.network.duplicated == pytest.approx(400, rel=0.2)
    assert set(counts.values()) == {1, 2}


def test_a_throttled_link_takes_as_long_as_the_bytes_need() -> None:
    world, (a, b) = make(conditions=Conditions(Delay.fixed(0.0), bytes_per_s=1000.0))
    for _ in range(4):
        a.send("n1", b"", 500)
    world.run_for(10.0)
    assert isinstance(b.process, Ear)
    assert b.process.times == [0.5, 1.0, 1.5, 2.0]


def test_a_cut_may_be_one_way() -> None:
    world, (a, b) = make()
    world.network.apply(*between(("n0",), ("n1",), both_ways=False))
    a.send("n1", "lost")
    b.send("n0", "arrives")
    world.run_for(1.0)
    assert (heard(a), heard(b)) == (["arrives"], [])
    assert world.network.is_cut("n0", "n1")
    assert not world.network.is_cut("n1", "n0")


def test_rules_compose_and_each_is_lifted_by_itself() -> None:
    world, (a, b, c) = make(3)
    for host, other in ((a, "n1"), (c, "n1")):
        host.send(other, "before")
    island = between(("n1",), ("n0", "n2"))
    one = Rule(("n0",), ("n1",), cut=True)
    world.network.apply(*island, one)
    a.send("n1", 1)
    world.network.lift(*island)
    a.send("n1", 2)
    c.send("n1", 3)
    world.network.lift(one)
    a.send("n1", 4)
    world.run_for(1.0)
    assert sorted(heard(b), key=str) == [3, 4, "before", "before"]
    with pytest.raises(InternalError):
        world.network.lift(Rule(("n0",), ("n1",), cut=True))


def test_a_rule_holds_for_links_made_later_and_hosts_added_later() -> None:
    world, (a, _) = make()
    world.network.apply(Rule(targets=("n2",), cut=True))
    late = world.add("n2", Ear)
    late.start()
    a.send("n2", "lost")
    world.network.lift_all()
    a.send("n2", "arrives")
    world.run_for(1.0)
    assert heard(late) == ["arrives"]


def test_a_clog_lets_everything_through_at_its_end_in_order() -> None:
    world, (a, b) = make()
    clog = Rule(("n0",), None, clog=True)
    world.network.apply(clog)
    for number in range(5):
        a.send("n1", number)
    world.run_for(10.0)
    assert heard(b) == []
    world.network.lift(clog)
    world.run_for(0.1)
    assert heard(b) == list(range(5))


def test_a_link_may_differ_from_the_rest() -> None:
    world, (a, b, c) = make(3, Conditions(Delay.fixed(0.001)))
    world.network.describe("n0", "n1", Conditions(Delay.fixed(0.4)))
    a.send("n1", 1)
    a.send("n2", 1)
    world.run_for(0.3)
    assert (heard(b), heard(c)) == ([], [1])
    world.run_for(0.3)
    assert heard(b) == [1]


def test_who_moves_is_found_at_its_new_address_alone() -> None:
    world, (a, b) = make()
    a.send("n1", 1)
    world.network.place(b, "elsewhere")
    a.send("n1", 2)
    a.send("elsewhere", 3)
    world.run_for(1.0)
    assert sorted(heard(b)) == [1, 3]
    assert world.network.unreachable == 1


def test_two_hosts_may_claim_one_identity() -> None:
    world, (a, _) = make()
    double = world.add("double", Ear, identity="n1")
    double.start()
    double.send("n0", "me too")
    world.run_for(1.0)
    assert isinstance(a.process, Ear)
    assert a.process.heard == [("n1", "me too")]


def test_counters_add_up() -> None:
    world, (a, b) = make()
    world.network.apply(Rule(loss=0.5))
    for _ in range(100):
        a.send("n1", 0, 10)
    world.run_for(1.0)
    b.power_off()
    world.network.lift_all()
    a.send("n1", 0)
    world.run_for(1.0)
    statistics = world.statistics()
    assert (statistics.sent, statistics.sent_bytes) == (101, 1000)
    assert statistics.received + statistics.lost == statistics.sent


class Phone(Ear):
    def disconnected(self, now: float, peer: str) -> None:
        self.heard.append((peer, "closed"))


def phones() -> tuple[World, list[Host]]:
    world = World(1)
    hosts = [world.add(f"n{i}", Phone) for i in range(3)]
    for host in hosts:
        host.start()
    hosts[0].send("n1", "last words")
    return world, hosts


def test_the_peers_of_a_killed_process_learn_of_it_after_all_it_said() -> None:
    world, (a, b, c) = phones()
    a.kill()
    world.run_for(1.0)
    assert heard(b) == ["last words", "closed"]
    assert heard(c) == []


def test_nobody_learns_of_a_power_cut_or_of_a_kill_behind_a_cut() -> None:
    world, (a, b, _) = phones()
    a.power_off()
    world.run_for(1.0)
    a.start()
    world.network.apply(*between(("n0",), ("n1",)))
    a.kill()
    world.run_for(1.0)
    assert heard(b) == ["last words"]


def test_a_connection_may_close_while_both_live() -> None:
    world, (a, b, _) = phones()
    b.pause()
    world.network.close(a, b)
    world.run_for(1.0)
    b.resume()
    world.run_for(1.0)
    assert (heard(a), heard(b)) == (["closed"], ["last words", "closed"])


def test_it_is_known_when_a_host_last_was_in_trouble() -> None:
    world, (a, b, c) = make(3)
    island = between(("n0",), ("n1", "n2"))
    world.run_for(1.0)
    assert a.troubled_at == float("-inf")
    world.network.apply(*island)
    assert a.troubled_at == b.troubled_at == float("inf")
    world.run_for(1.0)
    world.network.lift(*island)
    world.network.apply(Rule(loss=0.2))
    c.pause()
    assert (a.troubled_at, c.troubled_at) == (2.0, float("inf"))
    world.run_for(1.0)
    c.resume()
    b.kill()
    assert (a.troubled_at, b.troubled_at, c.troubled_at) == (2.0, float("inf"), 3.0)


@pytest.mark.parametrize("loss", [0.0, 0.3, 1.0])
def test_what_is_not_lost_takes_any_delay_of_the_distribution(loss: float) -> None:
    """One random number says both."""
    world, (a, b) = make(conditions=Conditions(Delay.uniform(0.1, 0.3), loss=loss))
    for _ in range(4000):
        a.send("n1", 0)
        world.run_for(1.0)
    assert isinstance(b.process, Ear)
    took = [at % 1.0 for at in b.process.times]
    assert len(took) == pytest.approx(4000 * (1.0 - loss), rel=0.05)
    assert len(took) + world.statistics().lost == 4000
    if took:
        assert (min(took), max(took)) == (pytest.approx(0.1, abs=0.001), pytest.approx(0.3, abs=0.001))
        assert sum(took) / len(took) == pytest.approx(0.2, abs=0.01)


def test_a_message_to_several_is_as_good_as_one_to_each() -> None:
    runs = []
    for is_one in (True, False):
        world, (a, *others) = make(4, Conditions(LAN.delay, loss=0.2))
        addresses = [host.address for host in others]
        for number in range(50):
            if is_one:
                a.send_all(addresses, number, 7)
            else:
                for address in addresses:
                    a.send(address, number, 7)
        world.run_for(1.0)
        runs.append(([heard(host) for host in others], world.trace.digest(), world.statistics()))
    assert runs[0] == runs[1]

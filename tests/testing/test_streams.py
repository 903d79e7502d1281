"""Connections: order, stalls, breaks, and coming back."""

from __future__ import annotations

from typing import Any

import pytest

from zmesh.testing import Conditions, Delay, Host, Process, Rule, World, between
from zmesh.testing.streams import Stream


class Peer(Process):
    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.heard: list[Any] = []
        self.opened_at: list[float] = []
        self.stream: Stream | None = None

    def dial(self, now: float, address: str) -> None:
        self.stream = Stream(self.host, address, self.opened_at.append)

    def receive(self, now: float, sender: str, message: Any) -> None:
        self.heard.append(message)


def make(conditions: Conditions | None = None, seed: int = 1) -> tuple[World, Host, Host, Stream]:
    world = World(seed, conditions=conditions or Conditions(Delay.uniform(0.001, 0.05)))
    a, b = world.add("a", Peer), world.add("b", Peer)
    a.start()
    b.start()
    a.call(peer(a).dial, "b")
    world.run_for(1.0)
    stream = peer(a).stream
    assert stream is not None
    assert stream.is_open
    return world, a, b, stream


def peer(host: Host) -> Peer:
    assert isinstance(host.process, Peer)
    return host.process


def send(stream: Stream, numbers: range) -> None:
    for number in numbers:
        assert stream.send(number)


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_everything_arrives_once_and_in_order_whatever_packets_are_lost(loss: float) -> None:
    world, _, b, stream = make(Conditions(Delay.uniform(0.001, 0.05), loss=loss, duplicate=loss, reorder=loss))
    send(stream, range(200))
    world.run_for(100.0)
    assert peer(b).heard == list(range(200))


def test_behind_a_cut_everything_waits() -> None:
    world, _, b, stream = make()
    cut = between(("a",), ("b",))
    world.network.apply(*cut)
    send(stream, range(5))
    world.run_for(10.0)
    assert peer(b).heard == []
    world.network.lift(*cut)
    send(stream, range(5, 8))
    world.run_for(1.0)
    assert peer(b).heard == list(range(8))


def test_a_break_loses_a_suffix_and_it_connects_again() -> None:
    lengths = []
    for seed in range(30):
        world, a, b, stream = make(seed=seed)
        send(stream, range(50))
        world.run_for(0.02)
        world.network.close(a, b)
        assert not stream.send("nobody takes it")
        world.run_for(1.0)
        assert stream.is_open
        assert len(peer(a).opened_at) == 2
        assert peer(b).heard == list(range(len(peer(b).heard)))
        lengths.append(len(peer(b).heard))
    assert min(lengths) < 50
    assert len(set(lengths)) > 5


def test_what_arrives_of_the_old_connection_may_be_read_after_the_first_of_the_new() -> None:
    overtaken = 0
    for seed in range(30):
        world, _, b, stream = make(Conditions(Delay.uniform(0.001, 0.5)), seed)
        send(stream, range(20))
        stream.break_()
        world.run_until(world.now + 0.16)
        stream.send("new")
        world.run_for(5.0)
        heard = peer(b).heard
        assert [number for number in heard if number != "new"] == list(range(len(heard) - ("new" in heard)))
        overtaken += "new" in heard[:-1]
    assert overtaken


def test_a_killed_reader_is_noticed_and_found_again() -> None:
    world, a, b, stream = make()
    b.kill()
    world.run_for(5.0)
    assert not stream.is_open
    b.start()
    world.run_for(1.0)
    assert stream.is_open
    assert len(peer(a).opened_at) == 2


def test_nothing_connects_through_a_cut_either_way() -> None:
    for rule in (Rule(("a",), ("b",), cut=True), Rule(("b",), ("a",), cut=True)):
        world, _, _, stream = make()
        world.network.apply(rule)
        stream.break_()
        world.run_for(20.0)
        assert not stream.is_open
        world.network.lift_all()
        world.run_for(1.0)
        assert stream.is_open


def test_a_full_queue_drops_single_messages() -> None:
    world, _, b, stream = make()
    stream.drop = 0.2
    send(stream, range(1000))
    world.run_for(1.0)
    assert len(peer(b).heard) == pytest.approx(800, rel=0.1)
    assert peer(b).heard == sorted(peer(b).heard)


def test_a_dead_process_sends_nothing_more() -> None:
    world, a, b, stream = make()
    world.network.apply(*between(("a",), ("b",)))
    send(stream, range(3))
    a.power_off()
    world.network.lift_all()
    world.run_for(5.0)
    assert peer(b).heard == []
    assert a.streams == []

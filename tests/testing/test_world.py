"""The engine itself: order, timers, pauses, crashes, slowness, and the fingerprint of a run."""

from __future__ import annotations

from typing import Any

import pytest

from zmesh.testing import Checker, Conditions, Delay, Host, LivenessFailure, Process, SafetyViolation, World

FIXED = Conditions(Delay.fixed(0.01))


class Recorder(Process):
    """Writes down what it is told, and wakes up at the times it is given."""

    def __init__(self, host: Host, *deadlines: float) -> None:
        super().__init__(host)
        self.heard: list[tuple[float, Any]] = []
        self.deadlines = list(deadlines)

    def start(self, now: float) -> None:
        self.heard.append((now, "start"))

    def receive(self, now: float, sender: str, message: Any) -> None:
        self.heard.append((now, message))

    def handle_timeout(self, now: float) -> None:
        self.heard.append((now, "timeout"))
        self.deadlines = [at for at in self.deadlines if at > now]

    def next_deadline(self) -> float | None:
        return min(self.deadlines, default=None)


def recorder(host: Host) -> Recorder:
    assert isinstance(host.process, Recorder)
    return host.process


def two(seed: int = 1, conditions: Conditions = FIXED, **options: Any) -> tuple[World, Host, Host]:
    world = World(seed, conditions=conditions, **options)
    hosts = [world.add(name, Recorder) for name in "ab"]
    for host in hosts:
        host.start()
    return world, hosts[0], hosts[1]


def test_a_message_arrives_after_the_delay_of_its_link() -> None:
    world, a, b = two()
    world.at(1.0, a.send, "b", "hello")
    world.run_until(2.0)
    assert recorder(b).heard == [(0.0, "start"), (1.01, "hello")]
    assert world.now == 2.0


def test_events_of_one_instant_happen_in_the_order_in_which_they_were_scheduled() -> None:
    world, a, b = two()
    for number in range(100):
        a.send("b", number)
    world.run_for(1.0)
    assert [message for _, message in recorder(b).heard[1:]] == list(range(100))


def test_a_timer_goes_off_at_its_deadline_and_once() -> None:
    world = World(1)
    host = world.add("a", lambda host: Recorder(host, 1.0, 2.5))
    host.start()
    world.run_for(10.0)
    assert recorder(host).heard == [(0.0, "start"), (1.0, "timeout"), (2.5, "timeout")]


def test_a_deadline_may_move_either_way() -> None:
    world = World(1)
    host = world.add("a", lambda host: Recorder(host, 5.0))
    host.start()
    world.run_for(1.0)
    host.call(lambda now: recorder(host).deadlines.append(2.0))
    world.run_for(1.5)
    host.call(lambda now: setattr(recorder(host), "deadlines", [8.0]))
    world.run_for(10.0)
    assert recorder(host).heard[1:] == [(2.0, "timeout"), (8.0, "timeout")]


def test_a_deadline_that_does_not_move_is_an_error_and_no_endless_loop() -> None:
    class Stuck(Process):
        def next_deadline(self) -> float | None:
            return 1.0

    world = World(1)
    world.add("a", Stuck).start()
    with pytest.raises(SafetyViolation, match="deadline does not move"):
        world.run_for(2.0)


def test_inputs_wait_while_a_process_is_paused() -> None:
    world, a, b = two()
    b.pause_for(5.0)
    a.send("b", "waits")
    world.run_for(4.0)
    assert recorder(b).heard == [(0.0, "start")]
    world.run_for(4.0)
    assert recorder(b).heard[1:] == [(5.0, "waits")]
    assert not b.is_paused


def test_paused_again_while_it_catches_up_it_keeps_what_waits() -> None:
    world, a, b = two()
    b.slow_down(1.0)
    for number in range(4):
        a.send("b", number)
    world.run_for(1.5)
    b.pause_for(10.0)
    world.run_for(9.0)
    assert [m for _, m in recorder(b).heard[1:]] == [0, 1]
    world.run_for(9.0)
    assert [m for _, m in recorder(b).heard[1:]] == [0, 1, 2, 3]


def test_a_timer_that_waited_goes_off_before_or_after_the_messages_that_waited() -> None:
    orders = set()
    for seed in range(20):
        world = World(seed, conditions=FIXED)
        a, b = world.add("a", Recorder), world.add("b", lambda host: Recorder(host, 1.0))
        a.start()
        b.start()
        b.pause_for(2.0)
        a.send("b", "message")
        world.run_for(3.0)
        orders.add(tuple(what for _, what in recorder(b).heard))
    assert sorted(orders) == [("start", "message", "timeout"), ("start", "timeout", "message")]


def test_a_slow_host_takes_its_time_for_each_input() -> None:
    world, a, b = two()
    b.slow_down(0.5)
    for number in range(3):
        a.send("b", number)
    world.run_for(5.0)
    assert recorder(b).heard[1:] == [(0.01, 0), (0.51, 1), (1.01, 2)]


def test_what_is_sent_after_a_long_computation_leaves_later_and_not_at_all_after_a_crash() -> None:
    for crash_at, arrived in ((0.5, []), (1.5, [(1.01, "done")])):
        world, a, b = two()

        def compute(_now: float, host: Host = a) -> None:
            host.spend(1.0)
            host.send("b", "done")

        a.call(compute)
        world.at(crash_at, a.power_off)
        world.run_for(3.0)
        assert recorder(b).heard[1:] == arrived


def test_a_crash_ends_timers_callbacks_and_what_waits() -> None:
    world = World(1, conditions=FIXED)
    a, b = world.add("a", Recorder), world.add("b", lambda host: Recorder(host, 3.0))
    a.start()
    first = b.start()
    b.after(2.0, lambda: b.observe("never"))
    b.pause()
    a.send("b", "lost with it")
    world.run_for(1.0)
    b.power_off()
    assert not b.is_up
    world.run_for(1.0)
    b.start()
    assert b.run == 2
    world.run_for(3.0)
    assert isinstance(first, Recorder)
    assert first.heard == [(0.0, "start")]
    assert recorder(b).heard == [(2.0, "start"), (3.0, "timeout")]
    assert world.network.lost == 0


def test_a_call_reaches_the_process_like_any_input() -> None:
    world, _, b = two()
    b.pause()
    b.call(lambda now: b.send("a", now))
    world.run_for(1.0)
    b.resume()
    world.run_for(1.0)
    assert recorder(world.hosts["a"]).heard[1:] == [(1.01, 1.0)]


def test_a_clock_that_drifts_moves_its_timers() -> None:
    world = World(1)
    host = world.add("a", lambda host: Recorder(host, 10.0))
    host.start()
    host.drift(2.0)
    world.run_for(4.0)
    host.drift(0.5)
    world.run_for(10.0)
    assert host.clock.true_time_of(10.0) == 8.0
    assert recorder(host).heard[1:] == [(10.0, "timeout")]


def test_checkers_see_observations_and_steps() -> None:
    class Nothing(Checker):
        def observed(self, host: Host, observation: Any) -> None:
            if observation == "bad":
                self.world.fail(host, "something bad")

    class Steps(Checker):
        steps = 0

        def stepped(self) -> None:
            self.steps += 1

    world, a, _ = two()
    steps = Steps(world)
    world.watch(Nothing(world))
    world.watch(steps)
    a.observe("good")
    a.send("b", 1)
    world.run_for(1.0)
    assert steps.steps == 1
    world.at(2.5, a.observe, "bad")
    with pytest.raises(SafetyViolation, match=r"safety violation, 2\.500000 s at a: something bad"):
        world.run_for(9.0)


def test_convergence_is_demanded_within_a_bound() -> None:
    world, _, b = two()
    world.at(1.9, b.power_off)
    assert world.converge(lambda: ["b is up"] if b.is_up else [], 5.0) == 2.0
    with pytest.raises(LivenessFailure, match=r"after 5\.0 s without faults: b is down"):
        world.converge(lambda: ["b is down"], 5.0)


@pytest.mark.parametrize("full", [False, True])
def test_the_fingerprint_tells_runs_apart(full: bool) -> None:
    def digest(seed: int, message: str = "x", conditions: Conditions | None = None) -> str:
        world, a, _ = two(seed, conditions or Conditions(Delay.uniform(0.0, 1.0)), full_trace=full)
        for _ in range(10):
            a.send("b", message)
        world.run_for(5.0)
        return world.trace.digest()

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)
    assert digest(1) != digest(1, conditions=Conditions(Delay.uniform(0.0, 1.1)))
    assert (digest(1) != digest(1, "y")) is full


def test_a_disk_outlives_its_process_and_a_sync_takes_the_time_it_takes() -> None:
    class Writer(Recorder):
        def start(self, now: float) -> None:
            file = self.host.disk.open("journal", create=True)
            self.heard.append((now, len(file)))
            file.append(b"x")
            file.sync()
            self.host.disk.sync_directory()
            self.host.send("b", "durable")
            file.append(b"unsynced")

    world = World(1, conditions=FIXED)
    writer, reader = world.add("a", Writer), world.add("b", Recorder)
    reader.start()
    writer.disk.conditions.sync_s = 0.25
    writer.start()
    world.run_for(1.0)
    assert recorder(reader).heard[1:] == [(0.51, "durable")]
    writer.kill()
    writer.start()
    assert recorder(writer).heard == [(1.0, 9)]
    writer.power_off()
    writer.start()
    assert recorder(writer).heard[0][1] in range(1, 19)

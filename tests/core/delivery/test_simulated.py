"""Everything is delivered exactly once and in order, whatever connections lose; and the simulation would notice."""

from __future__ import annotations

import sys
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.core.delivery.simulation import MAX_SIZE, World
from zmesh.core.delivery import ReceiveSession, SendSession, Verdict
from zmesh.core.delivery.sender import DeliveryEffect

NODES = st.integers(0, 1)


class Deliveries(RuleBasedStateMachine):
    """Users send, handlers take, connections come, break and lose, time passes: in any order."""

    world_class: ClassVar[type[World]] = World

    def __init__(self) -> None:
        super().__init__()
        self.world = self.world_class()

    @rule(index=NODES, count=st.integers(1, 3), size=st.integers(1, MAX_SIZE), frames=st.integers(1, 5))
    def send(self, index: int, count: int, size: int, frames: int) -> None:
        for _ in range(frames):
            self.world.send(index, count, size)

    @rule(index=NODES)
    def consume(self, index: int) -> None:
        self.world.consume(index)

    @rule(index=NODES)
    def connect(self, index: int) -> None:
        self.world.connect(index)

    @rule(index=NODES)
    def notice(self, index: int) -> None:
        self.world.notice(index)

    @rule(index=NODES, arrived=st.integers(0, 8))
    def break_(self, index: int, arrived: int) -> None:
        self.world.break_(index, arrived)

    @rule(index=NODES, position=st.integers(0, 3))
    def lose(self, index: int, position: int) -> None:
        self.world.lose(index, position)

    @rule(index=NODES, size=st.integers(1, MAX_SIZE))
    def send_in_vain(self, index: int, size: int) -> None:
        if self.world.send(index, 1, size):
            self.world.lose(index, 0)

    @rule(index=NODES, which=st.integers(0, 2), frames=st.integers(1, 8))
    def deliver(self, index: int, which: int, frames: int) -> None:
        for _ in range(frames):
            self.world.deliver(index, which)

    @rule(index=NODES, rounds=st.integers(1, 8))
    def flow(self, index: int, rounds: int) -> None:
        """Traffic as it is when nothing goes wrong: far more than chance would bring together."""
        for _ in range(rounds):
            self.world.send(index, 1, MAX_SIZE)
            self.world.deliver(index, 0)
            self.world.advance(0.001)
            self.world.deliver(1 - index, 0)

    @rule(seconds=st.sampled_from([0.0005, 0.001, 0.05, 0.2, 1.0, 4.0]))
    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)

    @invariant()
    def holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if sys.exception() is None:  # else the failure that ended the run is the one to report
            self.world.heal()


Deliveries.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDeliveries = Deliveries.TestCase


# -- each rule of the protocol, taken away --------------------------------------------------------------------------


class TakesDuplicates(ReceiveSession):
    def receive(self, now: float, first: int, count: int, size: int) -> Verdict:
        verdict = super().receive(now, first, count, size)
        if verdict is Verdict.DUPLICATE:
            self.received_bytes += size
            return Verdict.DELIVER
        return verdict


class TakesGaps(ReceiveSession):
    def receive(self, now: float, first: int, count: int, size: int) -> Verdict:
        self.expected = max(self.expected, first)
        return super().receive(now, first, count, size)


class GrantsOnArrival(ReceiveSession):
    def take_ack(self) -> tuple[int, int, bool]:
        ack, _, rewind = super().take_ack()
        return ack, self.received_bytes + self.window, rewind


class NeverRewinds(SendSession):
    def receive(self, now: float, ack: int, limit: int, rewind: bool) -> tuple[DeliveryEffect, ...]:
        return super().receive(now, ack, limit, False)


class NeverProbes(SendSession):
    def handle_timeout(self, now: float) -> tuple[DeliveryEffect, ...]:
        super().handle_timeout(now)
        return ()


class NeitherProbesNorResends(NeverProbes):
    def connected(self, now: float) -> tuple[DeliveryEffect, ...]:
        return ()


class BelievesEveryAck(SendSession):
    """Takes the ack of what it has sent for granted."""

    def receive(self, now: float, ack: int, limit: int, rewind: bool) -> tuple[DeliveryEffect, ...]:
        return super().receive(now, self.next_record, limit, rewind)


class IgnoresCredit(World):
    honours_credit = False


def _world(send: type[SendSession] = SendSession, receive: type[ReceiveSession] = ReceiveSession) -> type[World]:
    return type("AblatedWorld", (World,), {"send_session": send, "receive_session": receive})


@pytest.mark.parametrize(
    ("world", "complaint"),
    [
        pytest.param(_world(receive=TakesDuplicates), "not exactly once and in order", id="duplicate check"),
        pytest.param(_world(receive=TakesGaps), "not exactly once and in order", id="gap check"),
        pytest.param(_world(receive=GrantsOnArrival), "made to hold more than its window", id="credit by consumption"),
        pytest.param(_world(send=NeverRewinds), "after all faults were healed", id="rewind"),
        pytest.param(_world(send=NeverProbes), "after all faults were healed", id="probe"),
        pytest.param(_world(send=NeitherProbesNorResends), "after all faults were healed", id="resend"),
        pytest.param(_world(send=BelievesEveryAck), "acknowledged, and not delivered", id="ack"),
        pytest.param(IgnoresCredit, "more sent than granted|bytes for its peer|made to hold", id="credit"),
    ],
)
def test_the_simulation_notices_when_a_rule_is_missing(world: type[World], complaint: str) -> None:
    machine = type("Ablated", (Deliveries,), {"world_class": world})
    found = settings(
        max_examples=2000,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(AssertionError, match=complaint):
        run_state_machine_as_test(machine, settings=found)

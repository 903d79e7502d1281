"""Everything is delivered exactly once and in order, whatever connections lose; and the simulation would notice."""

from __future__ import annotations

import re

import pytest

from zmesh.core.delivery import ReceiveSession, SendSession, Verdict
from zmesh.core.delivery.sender import DeliveryEffect
from zmesh.testing import assert_holds
from zmesh.testing.scenario import draw_scenario
from zmesh.testing.subjects.delivery import DeliveryProcess, DeliverySubject
from zmesh.testing.trial import run_trial

SEEDS = 40  # within which each missing rule must be noticed


def failure_of(process: type[DeliveryProcess], seed: int) -> str:
    subject = type("Ablated", (DeliverySubject,), {"process_class": process})
    return run_trial(draw_scenario(DeliverySubject.settings, seed), subject).failure


@pytest.mark.parametrize("seed", range(25))
def test_everything_is_delivered_once_and_in_order(seed: int) -> None:
    assert_holds(DeliverySubject, seed)


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


class IgnoresCredit(DeliveryProcess):
    honours_credit = False


def _process(
    send: type[SendSession] = SendSession, receive: type[ReceiveSession] = ReceiveSession
) -> type[DeliveryProcess]:
    return type("AblatedProcess", (DeliveryProcess,), {"send_session": send, "receive_session": receive})


@pytest.mark.parametrize(
    ("process", "complaint"),
    [
        pytest.param(_process(receive=TakesDuplicates), "not exactly once and in order", id="duplicate check"),
        pytest.param(_process(receive=TakesGaps), "not exactly once and in order", id="gap check"),
        pytest.param(
            _process(receive=GrantsOnArrival), "made to hold more than its window", id="credit by consumption"
        ),
        pytest.param(_process(send=NeverRewinds), "after .* without faults", id="rewind"),
        pytest.param(_process(send=NeverProbes), "after .* without faults", id="probe"),
        pytest.param(_process(send=NeitherProbesNorResends), "after .* without faults", id="resend"),
        pytest.param(_process(send=BelievesEveryAck), "acknowledged, and not delivered", id="ack"),
        pytest.param(IgnoresCredit, "more sent than granted|more for its peer|made to hold", id="credit"),
    ],
)
def test_the_simulation_notices_when_a_rule_is_missing(process: type[DeliveryProcess], complaint: str) -> None:
    found = next((failure for seed in range(SEEDS) if (failure := failure_of(process, seed))), "")
    assert re.search(complaint, found), found

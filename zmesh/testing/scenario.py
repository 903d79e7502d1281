"""A scenario: everything that a trial needs to know, as plain data, drawn from a seed.

Drawing is swarm testing (Groce et al., 2012): a seed first draws which kinds of faults exist in it at all, then how
often they come, then the faults. What one seed leaves out is what lets another find the bug that it would have hidden.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from zmesh.testing.conditions import Conditions
from zmesh.testing.delays import Delay
from zmesh.testing.faults import Fault
from zmesh.testing.randomness import stream

__all__ = [
    "PLAIN_DELAY_S",
    "Draw",
    "Scenario",
    "Settings",
    "draw_faults",
    "draw_scenario",
    "from_json",
    "names_of",
    "to_json",
]

PLAIN_DELAY_S: Final = (0.0002, 0.002)
CHANCE_OF_A_KIND: Final = 0.5
QUIET_S: Final = 3.0  # at the start: everybody gets to know everybody


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run: its network, its clocks, its faults."""

    subject: str
    seed: int
    nodes: int
    fault_s: float  # of the safety phase
    settle_s: float  # within which all must be well again, once everything is healed
    delay_s: tuple[float, float] = PLAIN_DELAY_S  # least and mean
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    skew_s: float = 0.0  # wall clocks are wrong by up to so much
    drift: float = 0.0  # clocks run fast or slow by up to this share
    faults: tuple[Fault, ...] = ()

    @property
    def conditions(self) -> Conditions:
        """Of every link."""
        delay = Delay.exponential(*self.delay_s)
        return Conditions(delay, self.loss, self.duplicate, self.reorder, reorder_s=10 * self.delay_s[1])


@dataclass(frozen=True, slots=True)
class Draw:
    """How the faults of one kind are drawn. ``befalls`` is 1 for one host, 2 for a pair, 0 for some, -1 for all."""

    kind: str
    befalls: int = 1
    for_s: tuple[float, float] = (0.0, 0.0)
    amount: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is drawn for a subject: how much of it, and which faults it must endure."""

    subject: str
    draws: tuple[Draw, ...]
    nodes: int = 5
    fault_s: float = 120.0
    settle_s: float = 30.0
    faults_per_minute: float = 10.0
    max_loss: float = 0.05  # of each message, all the time
    max_duplicate: float = 0.0
    max_reorder: float = 0.0
    max_skew_s: float = 2.0
    max_drift: float = 0.001


def names_of(nodes: int) -> list[str]:
    """What the hosts of a scenario are called."""
    return [f"n{number}" for number in range(nodes)]


def draw_scenario(settings: Settings, seed: int) -> Scenario:
    """The scenario of a seed: the same one in every process."""
    chance = stream(seed, "scenario", settings.subject)
    least_s = chance.choice((0.0002, 0.001, 0.02))

    def sometimes(most: float) -> float:
        return chance.uniform(0.0, most) if chance.random() < 0.5 else 0.0

    return Scenario(
        subject=settings.subject,
        seed=seed,
        nodes=settings.nodes,
        fault_s=settings.fault_s,
        settle_s=settings.settle_s,
        delay_s=(least_s, least_s * chance.choice((1.2, 2.0, 4.0))),
        loss=sometimes(settings.max_loss),
        duplicate=sometimes(settings.max_duplicate),
        reorder=sometimes(settings.max_reorder),
        skew_s=sometimes(settings.max_skew_s),
        drift=sometimes(settings.max_drift),
        faults=draw_faults(
            settings.draws,
            names_of(settings.nodes),
            QUIET_S,
            settings.fault_s - QUIET_S,
            settings.faults_per_minute,
            chance,
        ),
    )


def draw_faults(
    draws: Sequence[Draw],
    names: Sequence[str],
    start: float,
    for_s: float,
    faults_per_minute: float,
    chance: random.Random,
) -> tuple[Fault, ...]:
    """Which kinds there are, how often they come, and then the faults, all in the ``for_s`` seconds from ``start``."""
    chosen = [draw for draw in draws if chance.random() < CHANCE_OF_A_KIND]
    if not chosen:
        return ()
    rate = faults_per_minute / 60.0 * chance.choice((0.3, 1.0, 2.0))
    faults = []
    at = start + chance.expovariate(rate)
    while at < start + for_s:
        faults.append(_draw_fault(chance.choice(chosen), at, names, chance))
        at += chance.expovariate(rate)
    return tuple(faults)


def _draw_fault(draw: Draw, at: float, names: Sequence[str], chance: random.Random) -> Fault:
    if draw.befalls > 0:
        hosts = chance.sample(names, draw.befalls)
    else:
        hosts = chance.sample(names, chance.randint(1, len(names) - 1)) if draw.befalls == 0 else []
    for_s, amount = chance.uniform(*draw.for_s), chance.uniform(*draw.amount)
    return Fault(draw.kind, round(at, 3), round(for_s, 3), tuple(hosts), round(amount, 6))


_decode: Callable[[bytes | str], Scenario] = msgspec.json.Decoder(Scenario).decode


def to_json(scenario: Scenario) -> str:
    """For people and files."""
    return msgspec.json.format(msgspec.json.encode(scenario), indent=2).decode()


def from_json(text: str) -> Scenario:
    """What ``to_json`` wrote, perhaps edited. Raises ``msgspec.ValidationError``."""
    return _decode(text)

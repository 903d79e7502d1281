"""What a link is like, and the rules by which faults change it.

A ``Rule`` covers the links from some hosts to others while it is in force; any number of rules may cover a link, and
each adds to what the others do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from zmesh.errors import check
from zmesh.testing.delays import Delay

__all__ = ["EVERYONE", "LAN", "Conditions", "Rule", "between"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a link in one direction treats messages. Shares are probabilities for each message."""

    delay: Delay
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0  # may overtake or be overtaken; all others keep their order, as on one TCP connection
    reorder_s: float = 0.0  # by so much at most
    bytes_per_s: float | None = None
    is_cut: bool = False  # nothing sent now arrives
    is_clogged: bool = False  # what is sent now arrives when the clog is over, all at once

    @property
    def is_plain(self) -> bool:
        """Whether a message is lost or merely delayed, in order."""
        return not (self.duplicate or self.reorder or self.bytes_per_s or self.is_cut or self.is_clogged)


LAN: Final = Conditions(Delay.uniform(0.0002, 0.002))
TROUBLING_LOSS: Final = 0.3  # of all messages: above what protocols must shrug off
EVERYONE: Final[tuple[str, ...] | None] = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A change of the links from ``sources`` to ``targets``: names of hosts, None for all of them."""

    sources: tuple[str, ...] | None = EVERYONE
    targets: tuple[str, ...] | None = EVERYONE
    cut: bool = False
    clog: bool = False
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.0
    delay: Delay | None = None  # in place of what it was
    bytes_per_s: float | None = None  # at most

    @property
    def is_trouble(self) -> bool:
        """Whether hosts that it names are no healthy hosts: for checkers of what must not befall those."""
        return self.cut or self.clog or self.loss > TROUBLING_LOSS

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts that it names."""
        return (self.sources or ()) + (self.targets or ())

    def covers(self, source: str, target: str) -> bool:
        """Whether the link from ``source`` to ``target`` is changed."""
        return (self.sources is None or source in self.sources) and (self.targets is None or target in self.targets)

    def changed(self, conditions: Conditions) -> Conditions:
        """What becomes of a link."""
        rates = [rate for rate in (conditions.bytes_per_s, self.bytes_per_s) if rate is not None]
        return replace(
            conditions,
            delay=self.delay or conditions.delay,
            loss=_either(conditions.loss, self.loss),
            duplicate=_either(conditions.duplicate, self.duplicate),
            reorder=_either(conditions.reorder, self.reorder),
            reorder_s=max(conditions.reorder_s, self.reorder_s),
            bytes_per_s=min(rates, default=None),
            is_cut=conditions.is_cut or self.cut,
            is_clogged=conditions.is_clogged or self.clog,
        )


def between(some: tuple[str, ...], others: tuple[str, ...], *, both_ways: bool = True) -> tuple[Rule, ...]:
    """The rules that cut ``some`` off from ``others``: what they send is lost, and with ``both_ways`` the answers."""
    check(not set(some) & set(others), "nobody can be on both sides of a cut")
    one_way = Rule(some, others, cut=True)
    return (one_way, Rule(others, some, cut=True)) if both_ways else (one_way,)


def _either(first: float, second: float) -> float:
    return 1.0 - (1.0 - first) * (1.0 - second) if first and second else first or second

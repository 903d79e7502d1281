"""Whom to dial, at which addresses, and when again: the dialling half of an introduction, without sockets.

A *target* is a node whose contact is known, dialled at all its addresses at once (the first welcome from the expected
node wins), or a *seed*, an address without a name, where whoever answers is welcome. An address that does not answer
costs the others nothing: each has its own connection, and all are closed when the target's time is up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zmesh.core.introduction.messages import (
    CloseDial,
    DialEffect,
    DialFailed,
    DialSucceeded,
    OpenDial,
    SeedUnanswered,
)
from zmesh.core.membership.member import Contact
from zmesh.errors import check

if TYPE_CHECKING:
    import random

__all__ = ["DIAL_TIMEOUT_S", "MAX_DIALS", "Dialler"]

DIAL_TIMEOUT_S = 4.0  # connecting and the handshake may take 3 s each at worst; together they rarely take 10 ms
MAX_DIALS = 64  # open at once; what comes beyond waits its turn, so that a flood of addresses costs no sockets
MAX_SEEDS = 256
MAX_DOUBLINGS = 16
NO_ANSWER = "no answer"

_Key = str | tuple[str, int]  # a node's name, or a seed's address


@dataclass(slots=True)
class _Target:
    """A node or a seed that is to be met."""

    key: _Key
    addresses: tuple[tuple[str, int], ...]
    is_persistent: bool = False
    dials: list[int] = field(default_factory=list)  # open ones
    is_waiting: bool = False  # for its turn
    deadline: float = 0.0
    retry_at: float | None = None
    failures: int = 0
    reason: str = NO_ANSWER
    answered_by: str = ""
    has_answered: bool = False


class Dialler:
    """Decides about dials. Inputs take the time and return effects, in order."""

    def __init__(self, redial_interval_s: float, redial_interval_max_s: float, random: random.Random) -> None:
        self._interval_s = redial_interval_s
        self._interval_max_s = redial_interval_max_s
        self._random = random
        self._targets: dict[_Key, _Target] = {}
        self._of_dial: dict[int, _Target] = {}
        self._last_dial = 0
        self._now = float("-inf")
        self._effects: list[DialEffect] = []

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due."""
        times = [t.deadline for t in self._targets.values() if t.dials]
        times += [t.retry_at for t in self._targets.values() if t.retry_at is not None]
        return min(times, default=None)

    def is_open(self, dial: int) -> bool:
        """Whether an answer to this dial still matters."""
        return dial in self._of_dial

    def dial_node(self, now: float, contact: Contact, hosts: Sequence[str]) -> list[DialEffect]:
        """Meet the node at any of these hosts. A dial of the same node that is under way is given up for this one."""
        self._begin(now)
        previous = self._targets.pop(contact.node_id, None)
        if previous is not None:
            self._close(previous)
        addresses = tuple((host, contact.introduction_port) for host in dict.fromkeys(hosts))[:MAX_DIALS]
        self._add(_Target(contact.node_id, addresses))
        return self._end()

    def dial_address(self, now: float, host: str, port: int, *, persistent: bool) -> list[DialEffect]:
        """Meet whoever is there; ``persistent``: again and again, until somebody was, and after that one is gone."""
        self._begin(now)
        target = self._targets.get((host, port))
        if target is not None:
            target.is_persistent |= persistent
        elif len(self._targets) < MAX_SEEDS:
            self._add(_Target((host, port), ((host, port),), is_persistent=persistent))
        return self._end()

    def answered(self, now: float, dial: int, contact: Contact, host: str) -> list[DialEffect]:
        """A verified welcome came from this node."""
        self._begin(now)
        target = self._of_dial.get(dial)
        if target is not None and target.key in (contact.node_id, *target.addresses):
            port = next(port for _, port in target.addresses)
            self._finish(target, contact.node_id)
            self._effects.append(DialSucceeded(contact, host, port))
        elif target is not None:
            self._fail_dial(target, dial, f"{contact.node_id} answered instead")
        return self._end()

    def rejected(self, now: float, dial: int, code: str, reason: str) -> list[DialEffect]:
        """This dial will come to nothing. The code "self" means that the address is this node's own."""
        self._begin(now)
        target = self._of_dial.get(dial)
        if target is not None and code == "self" and isinstance(target.key, tuple):
            target.is_persistent = False
            self._finish(target, "")
        elif target is not None:
            self._fail_dial(target, dial, reason)
        return self._end()

    def explain(self, dial: int, reason: str) -> None:
        """What is known of why this dial has not succeeded yet: the reason to give, should it fail."""
        target = self._of_dial.get(dial)
        if target is not None:
            target.reason = reason

    def lost(self, now: float, node_id: str) -> list[DialEffect]:
        """The node died or left: the persistent seed that it answered at is dialled again."""
        self._begin(now)
        for target in self._targets.values():
            if target.answered_by == node_id:
                target.answered_by = ""
                target.failures = 0
                self._retry_later(target)
        return self._end()

    def handle_timeout(self, now: float) -> list[DialEffect]:
        """Do what has fallen due."""
        self._begin(now)
        for target in list(self._targets.values()):
            if target.dials and target.deadline <= now:
                self._fail(target)
            elif target.retry_at is not None and target.retry_at <= now:
                target.retry_at = None
                target.is_waiting = True
        return self._end()

    # -- steps -------------------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        check(now >= self._now, f"time went back from {self._now} to {now}")
        self._now = now
        self._effects = []

    def _end(self) -> list[DialEffect]:
        for target in self._targets.values():
            if target.is_waiting and len(self._of_dial) + len(target.addresses) <= MAX_DIALS:
                self._open(target)
        return self._effects

    def _add(self, target: _Target) -> None:
        self._targets[target.key] = target
        target.is_waiting = True

    def _open(self, target: _Target) -> None:
        target.is_waiting = False
        target.deadline = self._now + DIAL_TIMEOUT_S
        target.reason = NO_ANSWER
        for host, port in target.addresses:
            self._last_dial += 1
            target.dials.append(self._last_dial)
            self._of_dial[self._last_dial] = target
            self._effects.append(OpenDial(self._last_dial, host, port))

    def _close(self, target: _Target) -> None:
        for dial in target.dials:
            del self._of_dial[dial]
            self._effects.append(CloseDial(dial))
        target.dials.clear()
        target.is_waiting = False

    def _finish(self, target: _Target, answered_by: str) -> None:
        self._close(target)
        target.answered_by = answered_by
        target.has_answered = True
        target.failures = 0
        if not target.is_persistent:
            del self._targets[target.key]

    def _fail_dial(self, target: _Target, dial: int, reason: str) -> None:
        target.reason = reason
        target.dials.remove(dial)
        del self._of_dial[dial]
        self._effects.append(CloseDial(dial))
        if not target.dials:
            self._fail(target)

    def _fail(self, target: _Target) -> None:
        self._close(target)
        target.failures += 1
        if isinstance(target.key, str):
            del self._targets[target.key]
            self._effects.append(DialFailed(target.key, target.reason))
            return
        if not target.is_persistent:
            del self._targets[target.key]
        else:
            self._retry_later(target)
            if not target.has_answered:
                self._effects.append(SeedUnanswered(*target.key, target.reason))

    def _retry_later(self, target: _Target) -> None:
        doubled = self._interval_s * 2.0 ** min(max(target.failures - 1, 0), MAX_DOUBLINGS)
        target.retry_at = self._now + min(doubled, self._interval_max_s) * self._random.uniform(0.75, 1.0)

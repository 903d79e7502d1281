"""What runs on a simulated host: the adapter between a sans-IO machine and the world.

A ``Process`` is one run of a program, from start to crash. The world calls it with inputs; it feeds its machine and
carries out the effects, in order, through its ``Host``: ``send``, ``after``, ``observe``. After every input
the world asks for ``next_deadline`` and sees that ``handle_timeout`` is called then. Inputs that are no message (a
user's call, a closed connection) come by ``Host.call``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from zmesh.testing.host import Host

__all__ = ["Machine", "MachineProcess", "Process"]


class Process:
    """One run of a program. All times are the host's monotonic clock, and never go back."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def start(self, now: float) -> None:
        """The first input."""

    def receive(self, now: float, sender: str, message: Any) -> None:
        """A message from the host whose identity is ``sender``."""

    def handle_timeout(self, now: float) -> None:
        """``next_deadline`` has come."""

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due; asked after each input."""
        return None

    def disconnected(self, now: float, peer: str) -> None:
        """A connection with the host whose identity is ``peer`` closed: its process ended, or the network did it."""

    def ended(self) -> None:
        """It was killed or its host went off: no input. Nothing of it may run after this."""

    def bury(self) -> None:
        """The world is over, and this was put into its ``graveyard``."""


class Machine(Protocol):
    """The shape of every protocol core."""

    def receive(self, now: float, sender: str, message: Any) -> Iterable[Any]:
        """Take in a message; what to do, in order."""

    def handle_timeout(self, now: float) -> Iterable[Any]:
        """Do what has fallen due; what to do, in order."""

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due."""


class MachineProcess(Process):
    """Hosts one machine of the common shape. A subclass says how its effects are carried out."""

    def __init__(self, host: Host, machine: Machine) -> None:
        super().__init__(host)
        self.machine = machine
        self.next_deadline = machine.next_deadline  # type: ignore[method-assign]  # bound once: asked after every input

    def perform(self, effect: Any) -> None:
        """Carry out one effect; a ``Persist`` is done when this returns."""
        raise NotImplementedError

    def perform_all(self, effects: Iterable[Any]) -> None:
        """Carry out the effects of one input."""
        for effect in effects:
            self.perform(effect)

    def start(self, now: float) -> None:
        """The first timeout starts a machine."""
        self.perform_all(self.machine.handle_timeout(now))

    def receive(self, now: float, sender: str, message: Any) -> None:
        """Feed the machine a message."""
        for effect in self.machine.receive(now, sender, message):
            self.perform(effect)

    def handle_timeout(self, now: float) -> None:
        """Let the machine do what has fallen due."""
        for effect in self.machine.handle_timeout(now):
            self.perform(effect)

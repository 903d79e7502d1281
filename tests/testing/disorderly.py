"""A program that a seed does not decide: it sends in the order of a set of names, which each process has its own."""

from __future__ import annotations

from tests.testing.bugs import BuggySubject
from zmesh.testing import Host, Process
from zmesh.testing.scenario import Settings


class Disorderly(Process):
    def start(self, now: float) -> None:
        for name in {"n0", "n1", "n2", "n3"}:
            self.host.send(name, "hello")


class DisorderlySubject(BuggySubject):
    settings = Settings("disorderly", nodes=4, fault_s=5.0, draws=())

    def build(self) -> None:
        hosts: list[Host] = [self.world.add(f"n{number}", Disorderly) for number in range(4)]
        for host in hosts:
            host.start()

"""A subject with a bug that needs two things to come together: for what looks for bugs, and what makes them small.

Nodes hear each other's beats. The bug: one that has been restarted, and after that does not hear another for two
seconds, thinks that something terrible has happened.
"""

from __future__ import annotations

from typing import Any, ClassVar

from zmesh.testing import Host, Process
from zmesh.testing.scenario import Draw, Settings, names_of
from zmesh.testing.trial import Subject

BEAT_S = 0.2


class Beater(Process):
    """Sends beats to everybody."""

    def __init__(self, host: Host, peers: list[str]) -> None:
        super().__init__(host)
        self.peers = [peer for peer in peers if peer != host.name]
        self.beat = 0
        self.beat_at = 0.0
        self.heard: dict[str, float] = {}

    def start(self, now: float) -> None:
        self.beat_at = now + self.host.random("beat").random() * BEAT_S

    def handle_timeout(self, now: float) -> None:
        self.beat += 1
        self.beat_at += BEAT_S
        for peer in self.peers:
            self.host.send(peer, self.beat, 20)

    def next_deadline(self) -> float | None:
        return self.beat_at

    def receive(self, now: float, sender: str, message: Any) -> None:
        silent_s = now - self.heard.get(sender, now)
        self.heard[sender] = now
        if silent_s > 2.0 and self.host.run > 1:
            self.host.world.fail(self.host, f"{sender} was silent for {silent_s:.3f} s, after a restart")


class BuggySubject(Subject):
    """Fails when a node restarts, and later does not hear another for two seconds."""

    settings: ClassVar[Settings] = Settings(
        "bug",
        nodes=4,
        fault_s=60.0,
        faults_per_minute=30.0,
        draws=(
            Draw("kill", 1, (0.1, 1.2)),
            Draw("pause", 1, (0.1, 1.0)),
            Draw("cut_out", 0, (0.1, 4.0)),
            Draw("step_wall", 1, (0.0, 0.0), (-5.0, 5.0)),
            Draw("duplicate", -1, (1.0, 5.0), (0.1, 0.5)),
            Draw("disconnect", 2),
        ),
    )

    def build(self) -> None:
        names = names_of(self.scenario.nodes)
        for name in names:
            self.world.add(name, lambda host: Beater(host, names))
        for host in self.world.hosts.values():
            host.start()

    def complaints(self) -> list[str]:
        return [f"{host.name} is down" for host in self.world.hosts.values() if not host.is_up]


class FineSubject(BuggySubject):
    """Without the bug."""

    def build(self) -> None:
        super().build()
        for host in self.world.hosts.values():
            if isinstance(host.process, Beater):
                host.process.heard = Forgetful()

    settings: ClassVar[Settings] = Settings("fine", nodes=4, fault_s=20.0, draws=(Draw("pause", 1, (0.1, 1.0)),))


class Forgetful(dict[str, float]):
    def get(self, key: str, default: Any = None) -> Any:
        return default


class Broken(Process):
    def start(self, now: float) -> None:
        self.host.observe(1 / now)


class BrokenSubject(FineSubject):
    """Raises what nobody expects."""

    def build(self) -> None:
        self.world.add("n0", Broken).start()

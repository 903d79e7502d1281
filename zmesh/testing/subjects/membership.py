"""The membership machine under test in the simulator: which faults it must endure, and what must never happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from zmesh.core.membership.machine import Membership
from zmesh.core.membership.member import MemberEventKind
from zmesh.core.membership.messages import NotifyMember
from zmesh.core.membership.settings import MembershipSettings
from zmesh.testing.checkers import Checker
from zmesh.testing.faults import Begin, Fault
from zmesh.testing.host import Host
from zmesh.testing.scenario import Draw, Settings, names_of
from zmesh.testing.subjects.membership_mesh import MembershipMesh, MembershipProcess
from zmesh.testing.trial import Subject
from zmesh.testing.world import World

__all__ = ["FalseRemovals", "MembershipSubject", "WideMembershipSubject"]

GRACE_S = 12.0  # after a fault, and the time that a removal takes at most


class FalseRemovals(Checker):
    """Nobody is removed that had no fault lately, nor any on the way to who removes it.

    A removal is judged when it is first told anywhere: it may come late to nodes that were cut off themselves.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._judged: dict[tuple[str, int, int], None] = {}

    def observed(self, host: Host, observation: Any) -> None:
        """Judge a removal."""
        if not isinstance(observation, NotifyMember) or observation.kind is not MemberEventKind.DIED:
            return
        alive = observation.alive
        dead = self.world.hosts.get(alive.node_id)
        ended = (alive.node_id, alive.incarnation, alive.life)
        if ended in self._judged:
            return
        self._judged[ended] = None
        if dead is None or not isinstance(dead.process, MembershipProcess):
            return
        is_it = dead.process.incarnation == alive.incarnation
        trouble = self.world.network.pair_troubled_at(host.name, dead.name)
        troubled_at = max(dead.troubled_at, trouble)
        if is_it and troubled_at < self.world.now - GRACE_S:
            self.world.fail(host, f"removed {dead.name}, which is healthy")


def _leave(world: World, fault: Fault) -> Callable[[], None]:
    host = world.hosts[fault.hosts[0]]
    if isinstance(host.process, MembershipProcess) and not host.is_paused:
        host.call(host.process.leave)
        host.kill()
    return host.start_again


def _update(world: World, fault: Fault) -> None:
    host = world.hosts[fault.hosts[0]]
    if isinstance(host.process, MembershipProcess):
        host.call(host.process.update)


def _power_off(world: World, fault: Fault) -> Callable[[], None]:
    host = world.hosts[fault.hosts[0]]
    mesh = host.process.mesh if isinstance(host.process, MembershipProcess) else None
    host.power_off()
    if mesh is not None:
        mesh.dark.add(host.name)

    def restart() -> None:
        if mesh is not None:
            mesh.dark.discard(host.name)
        host.start_again()

    return restart


class MembershipSubject(Subject):
    """A mesh of nodes that know the first of them as seed."""

    timings: ClassVar[MembershipSettings] = MembershipSettings(steady_s=8.0)
    kinds: ClassVar[Mapping[str, Begin]] = {"leave": _leave, "update": _update, "power_off": _power_off}
    machine_class: ClassVar[type[Membership]] = Membership
    settings: ClassVar[Settings] = Settings(
        "membership",
        draws=(
            Draw("kill", 1, (0.1, 20.0)),
            Draw("power_off", 1, (0.1, 20.0)),
            Draw("leave", 1, (0.5, 10.0)),
            Draw("update", 1),
            Draw("pause", 1, (0.05, 10.0)),
            Draw("slow", 1, (1.0, 10.0), (0.001, 0.02)),
            Draw("cut_out", 0, (0.5, 15.0)),
            Draw("cut_in", 0, (0.5, 15.0)),
            Draw("partition", 0, (0.5, 20.0)),
            Draw("bridge", 0, (0.5, 20.0)),
            Draw("flap", 1, (1.0, 20.0), (0.2, 5.0)),
            Draw("clog", 1, (0.1, 5.0)),
            Draw("delay", -1, (1.0, 10.0), (0.01, 0.1)),
            Draw("throttle", -1, (1.0, 10.0), (2_000.0, 20_000.0)),
            Draw("disconnect", 2),
            Draw("step_wall", 1, (0.0, 0.0), (-5.0, 5.0)),
        ),
    )

    def build(self) -> None:
        """Everybody at once, as a script starts them."""
        self.mesh = MembershipMesh(self.world, self.timings, machine_class=self.machine_class)
        names = names_of(self.scenario.nodes)
        for name in names:
            self.mesh.start(name, names[:1] if name != names[0] else names[1:2])
        self.world.watch(FalseRemovals(self.world))

    def complaints(self) -> list[str]:
        """Who does not see exactly those that are there."""
        return self.mesh.complaints()


class WideMembershipSubject(MembershipSubject):
    """A mesh whose nodes watch some of the others only, as large ones do."""

    timings: ClassVar[MembershipSettings] = MembershipSettings(near_size=4, steady_s=4.0)
    settings: ClassVar[Settings] = replace(
        MembershipSubject.settings, subject="membership-wide", nodes=16, settle_s=60.0
    )

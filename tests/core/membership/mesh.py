"""Small meshes of the overlay machine in which everything is as in large ones: four members are near, more are not."""

from __future__ import annotations

from collections.abc import Iterable

from zmesh.core.membership.member import MemberEventKind

from zmesh.core.membership.machine import Membership
from zmesh.core.membership.messages import Petition, Send
from zmesh.core.membership.settings import MembershipSettings
from zmesh.core.membership.statements import Accusation, Alive, Charge, signed
from zmesh.core.membership.view import View
from zmesh.testing.conditions import LAN, Conditions
from zmesh.testing.subjects.membership_mesh import MembershipMesh
from zmesh.testing.world import World

WIDE = MembershipSettings(near_size=4)
NEAR = MembershipSettings()


class Mesh(MembershipMesh):
    """Nodes that know each other, some seconds old."""

    def __init__(
        self,
        nodes: int,
        *,
        seed: int = 1,
        settings: MembershipSettings = WIDE,
        machine: type[Membership] = Membership,
        conditions: Conditions = LAN,
    ) -> None:
        super().__init__(World(seed, conditions=conditions), settings, machine_class=machine)
        self.names = [f"n{number:03}" for number in range(nodes)]
        self.start_joined(self.names)
        self.world.run_for(3.0)

    @property
    def view(self) -> View:
        """That of the first node."""
        return self.node(self.names[0]).machine.view

    def power_off(self, name: str) -> None:
        """Gone without a word, and its kernel too."""
        self.world.hosts[name].power_off()
        self.dark.add(name)

    def freeze(self, name: str, seconds: float) -> None:
        """The whole machine stands still, its kernel too."""
        self.dark.add(name)
        self.world.hosts[name].pause_for(seconds)
        self.world.after(seconds, self.dark.discard, name)

    def died(self) -> list[str]:
        """Whose death has been told anywhere."""
        return sorted({told.alive.node_id for _, _, told in self.told if told.kind is MemberEventKind.DIED})

    def suspected(self) -> list[str]:
        """Who has been told as suspect anywhere."""
        return sorted({told.alive.node_id for _, _, told in self.told if told.kind is MemberEventKind.SUSPECTED})

    def most_views(self, names: Iterable[str]) -> int:
        """Through how many views any of these has gone."""
        return max(self.node(name).machine.views_installed for name in names)

    def accuse(self, liar: str, accused: Iterable[Alive]) -> None:
        """Have a node accuse others, to the stewards in charge."""
        node = self.node(liar)
        statements = tuple(
            signed(Accusation(liar, a.node_id, a.incarnation, a.life, Charge.SILENT), self.notary(liar))
            for a in accused
            if a.node_id != liar
        )
        for steward in node.machine.view.stewards():
            node.perform(Send(node.machine.view.members[steward].contact, Petition(0, statements)))

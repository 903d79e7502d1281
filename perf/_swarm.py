"""A mesh of the overlay machine in the simulator, ready to be measured: who was told what when, and what was sent.

Bytes are those of the frames as ``zmesh.wire.membership`` encodes them, and what ZMTP and CURVE add to each. What TCP and
IP add depends on how the kernel packs; ``TCP_IP_BYTES`` is what it is where every frame has a packet of its own.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from zmesh.core.membership.member import MemberEventKind

from zmesh.core.membership.machine import Membership
from zmesh.core.membership.messages import Heartbeat, MembershipMessage
from zmesh.core.membership.records import RecordStore
from zmesh.core.membership.settings import MembershipSettings
from zmesh.core.membership.statements import Alive, Gone
from zmesh.testing import LAN, Conditions, World
from zmesh.testing.subjects.membership_mesh import MembershipMesh, MembershipProcess
from zmesh.wire.membership import encode_membership

__all__ = ["LOSSY_LAN", "TCP_IP_BYTES", "GossipOnly", "Swarm", "quantile"]

ZMTP_CURVE_BYTES: Final = 35  # flags and length, the command's name, the nonce, the authenticator, one byte of flags
TCP_IP_BYTES: Final = 104  # IPv4 and TCP with timestamps, for the frame and for the acknowledgement
CERTIFICATE: Final = b"c" * 300  # as long as a node's certificate is
REMEMBERED: Final = 64
LOSSY_LAN: Final = Conditions(LAN.delay, loss=0.05)


class UnfetchedRecords(RecordStore):
    """Records that nobody fetches: what is measured is gossip, which carries their hashes."""

    def follow(self, put: Iterable[Alive], drop: Iterable[Gone], source: str) -> None:
        """Want nothing."""


class GossipOnly(Membership):
    """The machine without the fetching of records."""

    records_type = UnfetchedRecords


class Sizes:
    """How many bytes a message is; messages sent to many are encoded once."""

    def __init__(self) -> None:
        self._heartbeat = ZMTP_CURVE_BYTES + len(encode_membership(Heartbeat(1_700_000_000_000, 100_000, 1 << 63)))
        self._known: dict[int, tuple[MembershipMessage, int]] = {}
        self.by_kind: Counter[str] = Counter()

    def __call__(self, message: Any) -> int:
        if type(message) is Heartbeat:
            return self._heartbeat
        known = self._known.get(id(message))
        if known is None or known[0] is not message:
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            known = self._known[id(message)] = (message, ZMTP_CURVE_BYTES + len(encode_membership(message)))
        self.by_kind[type(message).__name__] += known[1]
        return known[1]


class Swarm:
    """A simulated mesh."""

    def __init__(
        self,
        seed: int,
        settings: MembershipSettings | None = None,
        *,
        conditions: Conditions = LAN,
        machine_class: type[Membership] = GossipOnly,
    ) -> None:
        self.world = World(seed, conditions=conditions)
        self.random = self.world.random("swarm")
        self.mesh = MembershipMesh(
            self.world, settings or MembershipSettings(), machine_class=machine_class, is_observed=False
        )
        self.mesh.certificate = CERTIFICATE
        self.sizes = Sizes()
        self.mesh.size_of = self.sizes

    @classmethod
    def joined(cls, nodes: int, seed: int, *, settle_s: float = 5.0, **options: Any) -> Swarm:
        """Nodes that know each other, some seconds old."""
        swarm = cls(seed, **options)
        swarm.mesh.start_joined([f"node-{number:05}" for number in range(nodes)])
        gc.collect()
        gc.freeze()  # a simulation makes no cycles worth looking for, and many objects to look through
        swarm.world.run_for(settle_s)
        return swarm

    @property
    def names(self) -> list[str]:
        """All hosts."""
        return list(self.world.hosts)

    def some(self, count: int) -> list[str]:
        """Hosts drawn at random."""
        return self.random.sample(self.names, count)

    def power_off(self, name: str) -> None:
        """A host is gone without a word, its kernel too."""
        self.world.hosts[name].power_off()
        self.mesh.dark.add(name)

    def deaths_since(self, when: float) -> dict[str, list[float]]:
        """After how long whose death was told to each node that was told of it."""
        deaths: dict[str, list[float]] = {}
        for at, _, told in self.mesh.told:
            if told.kind is MemberEventKind.DIED and at >= when:
                deaths.setdefault(told.alive.node_id, []).append(at - when)
        return deaths

    def bytes_sent(self, names: Sequence[str] | None = None) -> dict[str, int]:
        """By each host since the start."""
        return {name: self.world.hosts[name].sent_bytes for name in names or self.names}

    def frames_sent(self) -> int:
        """By all."""
        return sum(host.sent for host in self.world.hosts.values())

    def sizes_seen(self, of: Callable[[MembershipProcess], bool] = lambda node: True) -> set[int]:
        """The sizes of the views that nodes have now."""
        return {len(node.machine.view) for node in self.mesh.nodes() if of(node)}


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

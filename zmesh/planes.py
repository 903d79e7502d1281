"""What a node stands on: its right to be one, its control plane, the carrier of its data plane, its search for others.

``AgentNetwork`` is given ``Planes``, ZeroMQ's unless others are asked for: the simulator has its own. Nothing from
``Node`` upwards knows sockets, threads, files or clocks but through these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from zmesh.config import NetworkConfig
from zmesh.core.membership.member import AgentRecord, NodeRecord
from zmesh.runtime.carrier import Carrier
from zmesh.runtime.control_notices import ControlNotice, ControlStatistics, IncidentNotice
from zmesh.security import Authority, Identity, RunningNode

__all__ = ["Control", "OpenPlanes", "Planes", "Search", "Standing"]


class Standing(Protocol):
    """The right to be a node of a mesh, held until it is released."""

    @property
    def identity(self) -> Identity:
        """Who the node is; a renewed one takes its place."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where other nodes may be found, as far as the right itself says so."""

    @property
    def incarnation(self) -> int:
        """Of this start: ms since the epoch, and greater than those of all earlier ones of this node."""

    def has_authority(self) -> bool:
        """Whether this machine can invite others."""

    def authority(self) -> Authority:
        """What invites them. Raises ``KeystoreError``."""

    def neighbours(self) -> Sequence[RunningNode]:
        """Nodes that run on this machine, this one included; no discovery is needed to find them."""

    def announce(self, addresses: Sequence[str]) -> None:
        """Let neighbours find this node."""

    async def keep_renewed(
        self, *, client: bool, renewed: Callable[[], None], report: Callable[[IncidentNotice], None]
    ) -> None:
        """See to it that it does not end, until cancelled. ``renewed`` is called once ``identity`` is another."""

    def release(self) -> None:
        """Give it up; a second call does nothing."""


class Control(Protocol):
    """What ``Node`` asks of a control plane; every method is safe from the loop's thread."""

    def update_record(
        self,
        *,
        agents: tuple[AgentRecord, ...] | None = None,
        hosts: tuple[str, ...] | None = None,
        certificate: bytes | None = None,
        maintenance: bool | None = None,
        publishes: bool | None = None,
    ) -> None:
        """Change what this node says of itself, and tell the mesh."""

    def dial(self, addresses: Sequence[tuple[str, int]], persistent: bool) -> None:
        """Meet whoever answers there; ``persistent``: again and again while nobody does."""

    def find(self, node_id: str) -> None:
        """Something is to be sent to that member: look for the way, and tell where it was reached."""

    def disconnected(self, node_id: str) -> None:
        """A data connection with that node broke: ask it whether it lives."""

    def last_heard_ms(self, node_id: str) -> int | None:
        """When the node was last heard of, in ms since the epoch."""

    def statistics(self) -> ControlStatistics:
        """The counters."""


class Search(Protocol):
    """Looks for other nodes, and dials those it finds."""

    async def start(self) -> None:
        """Begin. Does not raise for what the machine or the network does."""

    async def stop(self) -> None:
        """End."""

    def states(self) -> dict[str, str]:
        """How each way of looking fares, for people."""


class OpenPlanes(Protocol):
    """The planes of one node, from its start to its end."""

    @property
    def carrier(self) -> Carrier:
        """What carries the frames of the data plane."""

    @property
    def control(self) -> Control:
        """The control plane."""

    def make_record(self) -> NodeRecord:
        """What this node says of itself to begin with."""

    def new_search(
        self,
        record: NodeRecord,
        addresses: Sequence[str],
        hosts_changed: Callable[[tuple[str, ...]], None],
        failed: Callable[[str, str], None],
    ) -> Search:
        """Look at these addresses, and wherever the configuration says. ``failed`` gets the way and the reason."""

    def start_control(self, record: NodeRecord) -> None:
        """Let the control plane serve."""

    async def stop_control(self) -> None:
        """Say goodbye, and end it."""

    async def close(self) -> None:
        """When everything else is closed: let go of what is left."""


class Planes(Protocol):
    """Makes them."""

    async def take_standing(self, config: NetworkConfig) -> Standing:
        """Become a member as ``config`` says. When cancelled, nothing of it goes on.

        Raises ``InvitationError``, ``KeystoreError``, ``ConfigurationError``.
        """

    def open(self, config: NetworkConfig, standing: Standing, notify: Callable[[ControlNotice], None]) -> OpenPlanes:
        """Begin to listen. ``notify`` gets what the control plane learns, on a thread of its own perhaps.

        Raises ``ConfigurationError``, ``AddressInUse``; nothing is left open then.
        """

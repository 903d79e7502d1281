"""The control plane of a simulated node: the membership machine as the simulator hosts it, on the node's own loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zmesh.config import Timings
from zmesh.core.membership.member import AgentRecord, MembershipTimings
from zmesh.core.membership.messages import MembershipEffect, Notify, SendControl
from zmesh.runtime.control_notices import ControlNotice, ControlStatistics, PeerNotice
from zmesh.security import fingerprint_of
from zmesh.security.keys import z85_encode
from zmesh.testing.host import Host
from zmesh.testing.streams import Stream
from zmesh.testing.subjects.membership import Hello, MembershipProcess, Refusal, Welcome
from zmesh.wire.control import decode_control, encode_control

__all__ = ["ControlProcess", "SimulatedControl", "is_control", "key_of", "membership_timings"]


def key_of(name: str) -> bytes:
    """The key of a simulated node, which opens nothing."""
    return z85_encode(hashlib.blake2b(name.encode(), digest_size=32).digest())


@dataclass(frozen=True, slots=True)
class ControlFrame:
    """A control message for the node of that name, which may have moved."""

    node_id: str
    data: bytes


def is_control(message: Any) -> bool:
    """Whether a message is for the control plane of a node, and not for its program."""
    return isinstance(message, ControlFrame | Hello | Welcome | Refusal)


def membership_timings(timings: Timings) -> MembershipTimings:
    """The part of the configuration that the machine wants."""
    return MembershipTimings(
        heartbeat_interval_s=timings.heartbeat_interval_s,
        suspect_after_s=timings.suspect_after_s,
        dead_after_s=timings.dead_after_s,
        forget_after_s=timings.forget_after_s,
        redial_interval_s=timings.redial_interval_s,
        redial_interval_max_s=timings.redial_interval_max_s,
    )


class ControlProcess(MembershipProcess):
    """The membership machine of one node; control messages travel as bytes, the parts of introductions as they are."""

    def __init__(
        self, host: Host, timings: MembershipTimings, client: bool, notify: Callable[[ControlNotice], None]
    ) -> None:
        super().__init__(host, timings)
        self.record = replace(self.record, client=client)
        self._tell = notify
        self.heard_ms: dict[str, int] = {}  # by node
        self.sent = self.received = 0
        self._streams: dict[str, Stream] = {}  # by address

    def receive(self, now: float, sender: str, message: Any) -> None:
        """A control message, or a part of an introduction."""
        if isinstance(message, ControlFrame):
            self.received += 1
            self.heard_ms[sender] = self.host.wall_ms
            message = (message.node_id, decode_control(message.data))
        super().receive(now, sender, message)

    def perform(self, effect: MembershipEffect) -> None:
        """Send bytes, and tell of events."""
        if isinstance(effect, SendControl):
            address = self.routes.get(effect.node_id)
            if address is not None:
                self._send(address, ControlFrame(effect.node_id, encode_control(effect.message)))
        elif isinstance(effect, Notify):
            node_id = effect.event.record.node_id
            key = key_of(node_id)
            self._tell(PeerNotice(effect.event, self.routes.get(node_id, ""), key, fingerprint_of(key)))
        else:
            super().perform(effect)

    def _send(self, address: str, frame: ControlFrame) -> None:
        """Over a connection, as for real; while there is none, the frame is lost, and the machine makes up for it."""
        stream = self._streams.get(address)
        if stream is None:
            stream = self._streams[address] = Stream(self.host, address, lambda now: None)
        self.sent += stream.send(frame)

    def close(self) -> None:
        """After ``leave``: what is under way arrives."""
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()


class SimulatedControl:
    """See ``Control``."""

    def __init__(self, process: ControlProcess) -> None:
        self._process = process

    def update_record(
        self,
        *,
        agents: tuple[AgentRecord, ...] | None = None,
        hosts: tuple[str, ...] | None = None,
        certificate: bytes | None = None,
        maintenance: bool | None = None,
    ) -> None:
        """Change what this node says of itself, and tell the mesh."""
        given = {"agents": agents, "hosts": hosts, "certificate": certificate, "maintenance": maintenance}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        process = self._process
        process.record = replace(process.record, version=process.record.version + 1, **changes)
        process.perform_all(process.machine.update_record(process.host.now, process.record))

    def dial(self, addresses: Sequence[tuple[str, int]], persistent: bool) -> None:
        """Meet whoever is there; the search sees to it that it is asked again."""
        for address, _ in addresses:
            self._process.dial("", (address,))

    def disconnected(self, node_id: str) -> None:
        """A data connection with that node broke."""
        self._process.disconnected(self._process.host.now, node_id)

    def last_heard_ms(self, node_id: str) -> int | None:
        """When the node was last heard of."""
        return self._process.heard_ms.get(node_id)

    def statistics(self) -> ControlStatistics:
        """What is counted here."""
        process = self._process
        return ControlStatistics(process.sent, process.received, 0, 0, 0, 0, len(process.routes), 0, {}, 0, 0)

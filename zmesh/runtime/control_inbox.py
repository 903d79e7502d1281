"""What members send: one ROUTER, whose frames are given on with the name of whom ZAP let in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import zmq

from zmesh.errors import ProtocolViolation
from zmesh.model import now_ms
from zmesh.runtime.admission import Admitted, AllowList
from zmesh.runtime.control_notices import IncidentLog
from zmesh.runtime.sockets import has_input

__all__ = ["ControlInbox"]

FRAMES_PER_TURN: Final = 1000  # then timers get their turn, however much comes in


class ControlInbox:
    """The control ROUTER. Used on the control thread alone, but for the counters."""

    def __init__(
        self,
        router: zmq.Socket[bytes],
        allowed: AllowList,
        incidents: IncidentLog,
        take: Callable[[Admitted, bytes], None],
    ) -> None:
        """``take`` may raise ``ProtocolViolation``."""
        self._router = router
        self._allowed = allowed
        self._incidents = incidents
        self._take_payload = take
        self._nodes_of: dict[int, str] = {}  # by the file descriptor of the connection they send over
        self.heard_ms: dict[str, int] = {}  # wall clock; read from other threads
        self.received = 0

    def handle(self) -> None:
        """Take in what members have sent."""
        for _ in range(FRAMES_PER_TURN):
            if not has_input(self._router):
                return
            self._take(self._router.recv_multipart(copy=False))

    def closed(self, descriptor: int) -> str | None:
        """An incoming connection closed; whose it was, if it had ever said anything."""
        return self._nodes_of.pop(descriptor, None)

    def _take(self, frames: list[zmq.Frame]) -> None:
        payload = frames[-1]
        sender = str(payload.get("User-Id"))
        admitted = self._allowed.by_name(sender)
        if admitted is None:
            reason = f"{sender} went unheard for too long and must introduce itself again"
            self._incidents.report("unknown_sender", sender, reason)
        elif admitted.not_after_ms < now_ms():
            reason = f"the certificate of {sender} has expired: renew it there by a new join string"
            self._incidents.report("expired_certificate", sender, reason)
        else:
            self._take_from(admitted, frames)

    def _take_from(self, admitted: Admitted, frames: list[zmq.Frame]) -> None:
        sender = admitted.node_id
        self.received += 1
        self.heard_ms[sender] = now_ms()
        self._nodes_of[int(frames[-1].get(zmq.SRCFD))] = sender
        try:
            if len(frames) != 2:
                raise ProtocolViolation("malformed_frame", f"{len(frames) - 1} parts instead of one")
            self._take_payload(admitted, frames[1].bytes)
        except ProtocolViolation as violation:
            self._incidents.report(violation.reason, sender, f"a control frame from {sender} was dropped: {violation}")

"""The receiving half of a link: a peer's sending session as it has come here, and its records on their way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zmesh.core.delivery import Reassembly, ReceiveSession, Verdict
from zmesh.errors import ProtocolViolation
from zmesh.runtime.outbox import Outbox
from zmesh.wire.data import Frame, run_length

if TYPE_CHECKING:
    from zmesh.runtime.data_plane import DataPlane

__all__ = ["ReceivingHalf"]

DELIVER: Final = Verdict.DELIVER  # looked up once: it is on the hot path


class ReceivingHalf:
    """What is known of a peer's sending session. It outlives the link, so that nothing is delivered twice."""

    __slots__ = ("_node_id", "_plane", "is_over", "reassembly", "session", "state")

    def __init__(self, session: int, plane: DataPlane, node_id: str) -> None:
        self._plane = plane
        self._node_id = node_id
        self.session = session  # the peer's number for it; 0 before its first frame
        self.is_over = False  # its process is no more: kept to know late frames of it, and not spoken of
        self.state = ReceiveSession(plane.window_bytes)
        self.reassembly = Reassembly(plane.max_message_bytes)

    def receive_records(
        self, now: float, frame: Frame, size: int, attachment: bytes | memoryview | None, outbox: Outbox
    ) -> bool:
        """Whether the records were new, and delivered; answers go to ``outbox``. Raises ``ProtocolViolation``."""
        runs = frame.runs
        part = runs[0].part  # the codec has seen that such a run is alone
        is_part = part is not None
        if attachment is not None and not is_part:
            raise ProtocolViolation("malformed_frame", "an attachment that belongs to no run")
        if part is not None:
            self.reassembly.check_total(part[0])  # before it is counted as received
        count = 1 if is_part else len(runs[0].payloads) if len(runs) == 1 else sum(map(run_length, runs))
        state = self.state
        verdict = state.receive(now, frame.first, count, size)
        if verdict is not DELIVER:
            self._count_dropped(verdict)
            return False
        share = size // count  # a record's part of the credit, while a handler or a queue holds it
        if is_part:
            state.consumed(now, size - self._deliver_part(frame, share, attachment or b"", outbox))
            return True
        held = 0
        number = frame.first
        deliver_run = self._plane.deliver_run
        for run in runs:
            held += deliver_run(outbox, run, number, frame.timestamp, share, self)
            number += len(run.payloads)
        state.consumed(now, size - held * share)
        return True

    def release(self, size: int) -> None:
        """A handler or a queue lets go of ``size`` bytes; which may be after the link they came over was given up."""
        self.state.consumed(self._plane.clock(), size)
        link = self._plane.links.by_node.get(self._node_id)
        if link is not None and link.half is self:
            self._plane.settle_later(link)

    def _count_dropped(self, verdict: Verdict) -> None:
        statistics = self._plane.statistics
        if verdict is Verdict.DUPLICATE:
            statistics.dropped_duplicate += 1
        else:
            statistics.dropped_gap += 1

    def _deliver_part(self, frame: Frame, share: int, attachment: bytes | memoryview, outbox: Outbox) -> int:
        """Take in a chunk; the bytes of credit that are still held, of a message that is whole with it."""
        run = frame.runs[0]
        total, offset = run.part or (0, 0)
        payload = self.reassembly.receive(total, offset, attachment)
        if payload is None:
            return 0
        run.payloads = [payload]
        # Its earlier chunks have been let go of: while it is in hand, they are taken back.
        share = max(share, len(payload))
        return share * self._plane.deliver_run(outbox, run, frame.first, frame.timestamp, share, self)

"""What the control plane tells the rest of the process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from zmesh.core.membership.member import MemberEvent

__all__ = ["UNKNOWN", "ControlNotice", "ControlStatistics", "IncidentLog", "IncidentNotice", "PeerNotice"]

UNKNOWN = "an unknown address"
MAX_REMEMBERED = 1024  # distinct (kind, source): strangers may come from any number of addresses


@dataclass(frozen=True, slots=True)
class PeerNotice:
    """A change of the membership, with what is needed to connect to the node."""

    event: MemberEvent
    host: str  # an address at which the node has answered this one, or the only one it states; "" if none is known
    curve_public: bytes  # Z85
    fingerprint: str
    is_wide: bool = False  # the mesh has more members than every node should be connected to


@dataclass(frozen=True, slots=True)
class IncidentNotice:
    """Something was refused, dropped or failed. Given once for each kind and source."""

    kind: str
    reason: str
    source: str  # a node's name, or an address
    count: int  # how many of this kind there have been, this one included


ControlNotice = PeerNotice | IncidentNotice


@dataclass(frozen=True, slots=True)
class ControlStatistics:
    """Counters since the start."""

    frames_sent: int
    frames_received: int
    frames_unsent: int  # kept back or given up, for want of a connection
    keys_accepted: int
    keys_refused: int
    dials_opened: int
    introductions: int  # completed, by either side
    enrolments: int
    incidents: dict[str, int]  # by kind, in order of first occurrence
    members: int  # of the view, this node included
    view_digest: int  # equal at two nodes that know the same members in the same versions


class IncidentLog:
    """Counts every incident, and tells of the first of each kind and source. Bounded, whatever strangers do."""

    def __init__(self, notify: Callable[[IncidentNotice], None]) -> None:
        self._notify = notify
        self._counts: Counter[str] = Counter()
        self._told: set[tuple[str, str]] = set()
        self._told_kinds: set[str] = set()
        self._nameless: dict[str, str] = {}  # reasons, by kind

    def report(self, kind: str, source: str, reason: str) -> bool:
        """Count it, and tell of it if it is new; whether it was. ``kind`` is our own word, never a stranger's."""
        self._counts[kind] += 1
        return self._tell(kind, source, reason)

    def report_nameless(self, kind: str, reason: str) -> None:
        """Count what came from nobody knows where. It is told of in ``review``, unless its kind has been by then."""
        self._counts[kind] += 1
        self._nameless.setdefault(kind, reason)

    def review(self) -> None:
        """To be called now and then."""
        while self._nameless:
            kind, reason = self._nameless.popitem()
            if kind not in self._told_kinds:
                self._tell(kind, UNKNOWN, reason)

    def counts(self) -> dict[str, int]:
        """How many of each kind. Safe from any thread."""
        return dict(self._counts)

    def _tell(self, kind: str, source: str, reason: str) -> bool:
        is_new = (kind, source) not in self._told and len(self._told) < MAX_REMEMBERED
        if is_new:
            self._told.add((kind, source))
            self._told_kinds.add(kind)
            self._notify(IncidentNotice(kind, reason, source, self._counts[kind]))
        return is_new

"""What nodes tell each other, and what the machine asks its driver to do. The wire: docs/spec/06-membership.md."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from zmesh.core.membership.member import Contact, MemberEventKind
from zmesh.core.membership.statements import Alive, Charge, Gone, Statement

__all__ = [
    "Answer",
    "Ask",
    "Body",
    "Fetch",
    "Heartbeat",
    "Hello",
    "Knock",
    "KnockOutcome",
    "MembershipEffect",
    "MembershipMessage",
    "Notice",
    "NotifyMember",
    "NotifyRecord",
    "Petition",
    "Pull",
    "Records",
    "Refusal",
    "ReportIncident",
    "Send",
    "SendAll",
    "Vouch",
]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """I live, and this is my view. Numbered, so that the receiver knows what was lost."""

    incarnation: int
    number: int
    digest: int
    wants_answer: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """I live: to whom asked."""

    incarnation: int
    digest: int


@dataclass(frozen=True, slots=True)
class Hello:
    """To one who may not have me in its view: this is me, and this is my view."""

    alive: Alive
    digest: int
    size: int  # 0: I have none that matters, let me in


@dataclass(frozen=True, slots=True)
class Petition:
    """To a steward: put this into the next view. ``turn``: how many stewards should have done so before you."""

    turn: int
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """A steward to an observer, and to the accused: do you hear this node?"""

    node_id: str
    incarnation: int
    life: int
    charge: Charge


@dataclass(frozen=True, slots=True)
class Vouch:
    """The answer to a steward: I hear it, or I am it. Who does not hear it accuses."""

    node_id: str
    incarnation: int
    life: int
    charge: Charge


@dataclass(frozen=True, slots=True)
class Notice:
    """I have a new view. Pull it, if you have not."""

    digest: int
    size: int


@dataclass(frozen=True, slots=True)
class Pull:
    """Give me what leads from my view to yours."""

    digest: int  # mine
    alive: Alive | None = None  # me, where you may not know me


@dataclass(frozen=True, slots=True)
class Body:
    """What leads from the view ``base`` (0: from nothing) to the view ``digest``."""

    base: int
    digest: int
    alive: tuple[Alive, ...] = ()
    gone: tuple[Gone, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """You may not join."""

    code: str  # "duplicate_name" or "superseded"
    incarnation: int  # of the node that has the name


@dataclass(frozen=True, slots=True)
class Fetch:
    """Give me these records, or say that you have not got them."""

    wanted: tuple[tuple[str, bytes], ...]  # names, and the hashes that their nodes state


@dataclass(frozen=True, slots=True)
class Records:
    """Records by their nodes' names; an empty one is not here."""

    records: tuple[tuple[str, bytes], ...]


MembershipMessage = (
    Heartbeat | Answer | Hello | Petition | Ask | Vouch | Notice | Pull | Body | Refusal | Fetch | Records
)


# -- effects: what the driver must do, in this order -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to this node, over the connection there is, or a new one."""

    to: Contact
    message: MembershipMessage


@dataclass(frozen=True, slots=True)
class SendAll:
    """Send one message to each of these nodes: a heartbeat, which is most of what is sent."""

    to: tuple[Contact, ...]
    message: MembershipMessage


class KnockOutcome(enum.Enum):
    """What became of a bare TCP connection to a node's control port."""

    OPEN = "open"  # the kernel there took it: the machine runs, and the process has not ended
    REFUSED = "refused"  # the machine runs, and nobody listens: the process has ended
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Knock:
    """Open a bare TCP connection to its control port, and close it; the driver calls ``knocked``."""

    to: Contact


@dataclass(frozen=True, slots=True)
class NotifyMember:
    """Tell the process of a change."""

    kind: MemberEventKind
    alive: Alive
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NotifyRecord:
    """Tell the process: the record that this statement is about is here. It comes after the member's own notice."""

    alive: Alive
    record: bytes


@dataclass(frozen=True, slots=True)
class ReportIncident:
    """Tell the operator of something that a person must put right."""

    kind: str
    source: str
    reason: str


MembershipEffect = Send | SendAll | Knock | NotifyMember | NotifyRecord | ReportIncident

"""Members' records, fetched by the hash in their statements: docs/spec/06-membership.md, section 7.

Gossip carries hashes only. Who learns of a new one asks whoever told it, then the node itself, then neighbours; since
the hash is signed by the node, any member may serve, and none need be believed. A member that is itself waiting for the
record passes it on when it comes, so one change crosses each link of the spreading once, like the view that told of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.messages import Fetch, NotifyRecord, Records
from zmesh.core.membership.statements import Alive, Gone, Left
from zmesh.errors import check

__all__ = ["MAX_RECORD_BYTES", "RecordStore", "record_hash_of"]

FOREVER: Final = float("inf")
HASH_BYTES: Final = 16
MAX_RECORD_BYTES: Final = 8 * 1024 * 1024  # as in docs/spec/02: 10,000 agents with 800 bytes each
MAX_ASKED: Final = 64  # records on their way to us at once: that bounds what they can make us hold
MAX_WAITING: Final = 16  # members that wait for a record that we wait for too; others are told that we lack it
ANSWER_BYTES: Final = 1024 * 1024  # an answer goes out when it has grown so large; one record may be larger
PATIENCE_S: Final = 2.0  # for an answer; doubled each time, up to 16 times
MAX_DOUBLINGS: Final = 4
PRUNE_SLACK: Final = 64


def record_hash_of(record: bytes) -> bytes:
    """What a statement says of a record; nothing of an empty one."""
    return hashlib.blake2b(record, digest_size=HASH_BYTES).digest() if record else b""


@dataclass(slots=True)
class _Want:
    """A record that is not here yet."""

    record_hash: bytes
    source: str  # who told of it
    attempt: int = 0
    asked: str = ""  # whom we have asked last
    deadline: float = FOREVER
    waiting: dict[str, None] = field(default_factory=dict)  # members that asked us for it


class RecordStore:
    """The records of the members and of those lost, and those that are being fetched."""

    def __init__(self, ledger: Ledger, record: bytes) -> None:
        self._ledger = ledger
        self._records: dict[str, tuple[bytes, bytes]] = {}  # hash and record, by node
        self._wants: dict[str, _Want] = {}
        self._queue: dict[str, None] = {}  # those wanted and not asked for yet
        self._asked: dict[str, None] = {}
        self.due = FOREVER
        self.put_own(record)

    def get(self, node_id: str) -> bytes | None:
        """The record that the member states at present, if it is here."""
        member, found = self._ledger.member(node_id), self._records.get(node_id)
        return found[1] if found is not None and member is not None and found[0] == member.record_hash else None

    def put_own(self, record: bytes) -> None:
        """This node's own record. Raises ``InternalError`` for one that nobody would take."""
        check(len(record) <= MAX_RECORD_BYTES, f"a record of {len(record)} bytes exceeds {MAX_RECORD_BYTES} bytes")
        if record:
            self._records[self._ledger.own.node_id] = (record_hash_of(record), record)

    # -- the view changed --------------------------------------------------------------------------------------------

    def follow(self, put: Iterable[Alive], drop: Iterable[Gone], source: str) -> None:
        """These came or changed, so said ``source`` ("" for this node), and those went."""
        for gone in drop:
            self._wants.pop(gone.node_id, None)
            self._asked.pop(gone.node_id, None)
            if isinstance(gone, Left):
                self._records.pop(gone.node_id, None)
        for alive in put:
            self._learn(alive, source)
        self._prune()

    def _learn(self, alive: Alive, source: str) -> None:
        node_id, want = alive.node_id, self._wants.get(alive.node_id)
        if want is not None and want.record_hash != alive.record_hash:
            del self._wants[node_id]
            self._asked.pop(node_id, None)
            want = None
        if node_id == self._ledger.own.node_id or not alive.record_hash or want is not None:
            return
        known = self._records.get(node_id)
        if known is not None and known[0] == alive.record_hash:
            self._ledger.effects.append(NotifyRecord(alive, known[1]))
            return
        self._wants[node_id] = _Want(alive.record_hash, source)
        self._queue[node_id] = None

    def _prune(self) -> None:
        members, lost = self._ledger.view.members, self._ledger.lost
        if len(self._records) > len(members) + len(lost) + PRUNE_SLACK:
            self._records = {name: kept for name, kept in self._records.items() if name in members or name in lost}

    # -- asking ------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Ask for what is wanted, as far as there is room: one message to each that is asked."""
        if not self._queue:
            return
        asked: dict[str, list[tuple[str, bytes]]] = {}
        while self._queue and len(self._asked) < MAX_ASKED:
            node_id = next(iter(self._queue))
            del self._queue[node_id]
            want = self._wants.get(node_id)
            if want is None or node_id in self._asked:  # it has gone, or was asked for under another hash
                continue
            self._asked[node_id] = None
            want.deadline = self._ledger.now + PATIENCE_S * 2.0 ** min(want.attempt, MAX_DOUBLINGS)
            self.due = min(self.due, want.deadline)
            want.asked = self._whom_to_ask(node_id, want)
            asked.setdefault(want.asked, []).append((node_id, want.record_hash))
        for target, wanted in asked.items():
            self._ledger.send(target, Fetch(tuple(wanted)))

    def _whom_to_ask(self, node_id: str, want: _Want) -> str:
        ledger = self._ledger
        if want.attempt == 0 and want.source in ledger.view.members and want.source != ledger.own.node_id:
            return want.source
        # In a wide view a neighbour comes before the node itself, which would get a connection from everybody.
        turn = max(1, want.attempt) if ledger.view.is_near or want.attempt != 1 else 2
        return ledger.random.choice(ledger.view.neighbours(ledger.own.node_id)) if turn % 2 == 0 else node_id

    def handle_timeout(self) -> None:
        """Ask others, where no answer came."""
        now = self._ledger.now
        for node_id in [node_id for node_id in self._asked if self._wants[node_id].deadline <= now]:
            self._ask_another(node_id)
        self._settle_due()

    def _ask_another(self, node_id: str) -> None:
        del self._asked[node_id]
        self._wants[node_id].attempt += 1
        self._queue[node_id] = None

    def _settle_due(self) -> None:
        self.due = min((self._wants[node_id].deadline for node_id in self._asked), default=FOREVER)

    # -- messages ----------------------------------------------------------------------------------------------------

    def on_fetch(self, sender: str, fetch: Fetch) -> None:
        """Give what is here; what we wait for too, when it comes. Of the rest, say that it is not here."""
        answer: list[tuple[str, bytes]] = []
        for node_id, record_hash in fetch.wanted:
            want = self._wants.get(node_id)
            found_hash, found = self._records.get(node_id, (b"", b""))
            if found_hash == record_hash:
                answer.append((node_id, found))
            elif want is not None and want.record_hash == record_hash and self._may_wait(sender, want):
                want.waiting[sender] = None
            else:
                answer.append((node_id, b""))
            if sum(len(record) for _, record in answer) >= ANSWER_BYTES:
                self._ledger.send(sender, Records(tuple(answer)))
                answer = []
        if answer:
            self._ledger.send(sender, Records(tuple(answer)))

    @staticmethod
    def _may_wait(sender: str, want: _Want) -> bool:
        """Two shall not wait for each other."""
        return sender != want.asked and len(want.waiting) < MAX_WAITING

    def on_records(self, message: Records) -> None:
        """Take what is wanted and has the hash that its node signed."""
        passed_on: dict[str, list[tuple[str, bytes]]] = {}
        for node_id, record in message.records:
            want = self._wants.get(node_id)
            if want is None:
                continue
            if self.is_sound(want.record_hash, record):
                self._take(node_id, want, record)
                for waiting in want.waiting:
                    passed_on.setdefault(waiting, []).append((node_id, record))
            elif node_id in self._asked and want.attempt < 2:
                self._ask_another(node_id)  # later denials do not hurry us: the deadline does, which grows
        for waiting, records in passed_on.items():  # together no larger than the message that brought them
            self._ledger.send(waiting, Records(tuple(records)))
        self._settle_due()

    def is_sound(self, record_hash: bytes, record: bytes) -> bool:
        """Whether it is what the node signed."""
        return record_hash_of(record) == record_hash

    def _take(self, node_id: str, want: _Want, record: bytes) -> None:
        del self._wants[node_id]
        self._asked.pop(node_id, None)
        self._records[node_id] = (want.record_hash, record)
        member = self._ledger.view.members[node_id]
        self._ledger.effects.append(NotifyRecord(member, record))

"""What this node wants to see in the next view: statements, sent to the stewards until a view has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from zmesh.core.membership.docket import Docket
from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.messages import Hello, Petition, Vouch
from zmesh.core.membership.statements import Accusation, Alive, Charge, Left, Statement, signed

__all__ = ["Petitions"]

FOREVER: Final = float("inf")
MAX_ATTEMPTS: Final = 1000
MAX_OPEN: Final = 16_384

_Key = tuple[str, str]


@dataclass(slots=True)
class _Open:
    statement: Statement
    attempt: int
    retry_at: float


class Petitions:
    """Open petitions, by what they are about."""

    def __init__(self, ledger: Ledger, docket: Docket) -> None:
        self._ledger = ledger
        self._docket = docket
        self._open: dict[_Key, _Open] = {}
        self._outgoing: dict[tuple[str, int], list[Statement]] = {}  # by steward and turn, until the input is done
        self.due = FOREVER

    def accuse(self, alive: Alive, charge: Charge) -> None:
        """Accuse a neighbour."""
        ledger = self._ledger
        own_id = ledger.own.node_id
        accusation = Accusation(own_id, alive.node_id, alive.incarnation, alive.life, charge)
        self._add(("accusation", alive.node_id), signed(accusation, ledger.notary))

    def withdraw(self, node_id: str) -> None:
        """It was heard: say so to those who were told otherwise."""
        entry = self._open.pop(("accusation", node_id), None)
        if entry is None or not isinstance(entry.statement, Accusation):
            return
        ledger, said = self._ledger, entry.statement
        vouch = Vouch(said.node_id, said.incarnation, said.life, said.charge)
        for steward in self._stewards(entry):
            if steward == ledger.own.node_id:
                self._docket.vouch(steward, vouch)
            else:
                ledger.send(steward, vouch)

    def put(self, alive: Alive) -> None:
        """Ask that this statement of life be taken in, one's own or that of a joiner."""
        known = self._open.get(("alive", alive.node_id))
        if known is None or not isinstance(known.statement, Alive) or alive.order > known.statement.order:
            self._add(("alive", alive.node_id), alive)

    def bury(self, left: Left) -> None:
        """Ask that a node that says goodbye be let go."""
        if ("left", left.node_id) not in self._open:
            self._add(("left", left.node_id), left)

    def review(self) -> None:
        """The view changed: what is in it is done, the rest goes to the new stewards."""
        for key, entry in list(self._open.items()):
            if self._is_done(entry.statement):
                del self._open[key]
                if isinstance(entry.statement, Alive):
                    self._welcome(entry.statement.node_id)
            else:
                entry.attempt = 0
                self._send(entry)

    def _welcome(self, node_id: str) -> None:
        """A newcomer learns from who asked for it that it is in: the others are strangers to it, and not let in."""
        ledger = self._ledger
        if node_id != ledger.own.node_id:
            ledger.send(node_id, Hello(ledger.own, ledger.view.digest, len(ledger.view)))

    def handle_timeout(self) -> None:
        """Try the next stewards, where the last did nothing."""
        now = self._ledger.now
        for key, entry in list(self._open.items()):
            if self._is_done(entry.statement):
                del self._open[key]
            elif entry.retry_at <= now:
                entry.attempt = (entry.attempt + 1) % MAX_ATTEMPTS
                self._send(entry)
        self._settle_due()

    def flush(self) -> None:
        """Send what the present input has brought together."""
        if not self._outgoing:
            return
        outgoing, self._outgoing = self._outgoing, {}
        for (steward, turn), statements in outgoing.items():
            if steward == self._ledger.own.node_id:
                self._docket.take(steward, turn, statements)
            else:
                self._ledger.send(steward, Petition(turn, tuple(statements)))

    def _add(self, key: _Key, statement: Statement) -> None:
        if len(self._open) < MAX_OPEN:
            entry = self._open[key] = _Open(statement, 0, FOREVER)
            self._send(entry)

    def _send(self, entry: _Open) -> None:
        for turn, steward in enumerate(self._stewards(entry)):
            judges_itself = self._ledger.view.is_near and isinstance(entry.statement, Accusation)
            self._outgoing.setdefault((steward, 0 if judges_itself else turn), []).append(entry.statement)
        entry.retry_at = self._ledger.now + self._patience_s(entry.statement)
        self.due = min(self.due, entry.retry_at)

    def _stewards(self, entry: _Open) -> list[str]:
        view, statement = self._ledger.view, entry.statement
        if view.is_near and isinstance(statement, Accusation):
            return [name for name in view.members if name != statement.node_id]
        return [name for name in view.stewards(entry.attempt) if ("accusation", name) not in self._open]

    def _patience_s(self, statement: Statement) -> float:
        settings = self._ledger.settings
        if isinstance(statement, Accusation):
            hold_s = settings.hold_s if statement.charge is not Charge.LOSSY else 2 * settings.lossy_hold_s
        else:
            hold_s = settings.batch_max_s + settings.takeover_s * 2
        return hold_s + settings.petition_retry_s

    def _is_done(self, statement: Statement) -> bool:
        ledger = self._ledger
        if isinstance(statement, Alive):
            return not ledger.is_news(statement)
        if isinstance(statement, Left):
            member = ledger.member(statement.node_id)
            return member is None or member.incarnation != statement.incarnation
        if not ledger.is_observer(statement.accuser, statement.node_id):
            return True  # the view has given it to others to watch
        return not ledger.is_in_force(statement.node_id, statement.incarnation, statement.life)

    def _settle_due(self) -> None:
        self.due = min((entry.retry_at for entry in self._open.values()), default=FOREVER)

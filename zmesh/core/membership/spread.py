"""How a view comes to everybody: small changes are pushed, large ones pulled, and digests find what was missed."""

from __future__ import annotations

from typing import Final

from zmesh.core.membership.ledger import Ledger
from zmesh.core.membership.messages import Body, Hello, Notice, Pull
from zmesh.core.membership.view import View

__all__ = ["Spread"]

FOREVER: Final = float("inf")
PUSHED: Final = 4  # statements: more than that crosses each link once, on request
PULL_PATIENCE_S: Final = 1.0
LAG_S: Final = 2.0  # who is in an earlier view after so long has missed something, or has gone back to it
TOLD: Final = 64  # statements: more than that are announced to it


class Spread:
    """What is announced, and what is being fetched."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pulled_at = -FOREVER
        self._pulled: int | None = None  # the digest waited for

    def announce(self, body: Body, before: View, source: str) -> None:
        """Tell the neighbours, those of the view before too, of the view just installed."""
        ledger, own_id = self._ledger, self._ledger.own.node_id
        is_small = len(body.alive) + len(body.gone) <= PUSHED
        digest, size = ledger.view.digest, len(ledger.view)
        known: Body | Notice = body if is_small else Notice(digest, size)
        unknown = Hello(ledger.own, digest, size)
        self._pulled = None
        for node_id in dict.fromkeys((*ledger.view.neighbours(own_id), *before.neighbours(own_id))):
            if node_id != source and node_id in ledger.view.members:
                ledger.send(node_id, known if node_id in before.members else unknown)

    def saw(self, sender: str, digest: int) -> None:
        """A node has that view: fetch it, unless it is known, or on its way."""
        ledger = self._ledger
        if ledger.knows(digest):
            self._catch_up(sender, digest)
            return
        self._pull(sender, digest)

    def noticed(self, sender: str, digest: int) -> None:
        """A node announces that view, which may be one of before again: where those who came have left."""
        if not self._ledger.knows(digest) or self._ledger.age_of(digest) > LAG_S:
            self._pull(sender, digest)

    def _catch_up(self, sender: str, digest: int) -> None:
        """The digest is known here, and ours may be there, so that neither asks: tell what lies between the two."""
        ledger = self._ledger
        if sender not in ledger.view.members or ledger.age_of(digest) <= LAG_S:
            return
        body = ledger.body_from(digest)
        is_small = len(body.alive) + len(body.gone) <= TOLD
        ledger.send(sender, body if is_small else Notice(ledger.view.digest, len(ledger.view)))

    def _pull(self, sender: str, digest: int) -> None:
        ledger = self._ledger
        if ledger.contact_of(sender) is None:
            return  # it cannot be asked: no answer is to be waited for
        patience_s = PULL_PATIENCE_S if self._pulled == digest else PULL_PATIENCE_S / 4
        if self._pulled is not None and ledger.now - self._pulled_at < patience_s:
            return
        self._pulled, self._pulled_at = digest, ledger.now
        is_member = sender in ledger.view.members
        ledger.send(sender, Pull(ledger.view.digest, None if is_member else ledger.own))

    def answer(self, pull: Pull) -> Body | None:
        """What the asker lacks, if anything."""
        return None if pull.digest == self._ledger.view.digest else self._ledger.body_from(pull.digest)

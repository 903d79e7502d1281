"""The certificate of a node that runs for longer than it is good: renewed in time, or its end foretold.

The machine that founded the mesh renews its own, and every machine those of the names under its own (``desk/2``, and
clients). What an enrolled machine has from the authority, only the authority can renew: it is asked for by a new join
string, and what that brought is taken up here while the node runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from zmesh.core.trust.rules import show_span
from zmesh.errors import KeystoreError
from zmesh.model import now_ms
from zmesh.runtime.control_notices import IncidentNotice
from zmesh.security import RENEW_AHEAD_MS, Claim, Keystore

__all__ = ["Renewal"]

logger = logging.getLogger("zmesh.renewal")

DAY_MS: Final = 86_400_000
REVIEW_INTERVAL_S: Final = 3600.0
WARNINGS_MS: Final = (RENEW_AHEAD_MS, 7 * DAY_MS, DAY_MS, 0)  # told once when so much is left, and again at the next
RENEWED_HERE: Final = "renewing it has failed, as was told, and is tried again each hour"
RENEWED_BY_JOINING: Final = (
    "to renew it, run `zmesh invite` on the machine that founded the mesh, and with its answer "
    "`zmesh-node --join STRING` on this one: nodes that run take the new one up within the hour"
)


class Renewal:
    """Looks after the certificate of one claim. ``renewed`` is called, in the loop, once a better one is in it."""

    def __init__(
        self,
        keystore: Keystore,
        claim: Claim,
        *,
        client: bool,
        renewed: Callable[[], None],
        report: Callable[[IncidentNotice], None],
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._keystore = keystore
        self._claim = claim
        self._client = client
        self._renewed = renewed
        self._report = report
        self._clock = clock
        self._warned = 0  # how many of the warnings have been given
        self._failure = ""

    async def run(self, interval_s: float = REVIEW_INTERVAL_S) -> None:
        """Review now and then, until cancelled."""
        while True:
            await self.review()
            await asyncio.sleep(interval_s)

    async def review(self) -> None:
        """Renew the certificate if that is due and possible; else warn, when its end is near."""
        now, identity = self._clock(), self._claim.identity
        try:
            better = await asyncio.to_thread(self._keystore.renew, identity, client=self._client, now_ms=now)
        except KeystoreError as error:
            better = identity
            self._tell_failure(str(error), has_expired=now > identity.period_ms[1])
        if better is not identity:
            self._claim.identity = better
            self._warned, self._failure = 0, ""
            logger.info(
                "the certificate of %s is renewed, for %s", better.node_id, show_span(better.period_ms[1] - now)
            )
            self._renewed()
        self._warn(better.vouched_until_ms - now)

    def _tell_failure(self, reason: str, *, has_expired: bool) -> None:
        if reason != self._failure and not has_expired:  # that it has expired is said by the last warning
            self._failure = reason
            self._tell("renewal_failed", f"the certificate of this node could not be renewed: {reason}")

    def _warn(self, left_ms: int) -> None:
        due = sum(left_ms <= stage_ms for stage_ms in WARNINGS_MS)
        if due <= self._warned:
            return
        self._warned = due
        what = f"ends in {show_span(left_ms)}" if left_ms > 0 else "has ended, and other nodes do not listen any more"
        remedy = RENEWED_HERE if self._keystore.has_authority() else RENEWED_BY_JOINING
        self._tell("certificate_expires", f"the certificate of this machine {what}; {remedy}")

    def _tell(self, kind: str, reason: str) -> None:
        self._report(IncidentNotice(kind, reason, self._claim.identity.node_id, 1))

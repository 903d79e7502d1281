"""Messages for agents that are not on this node: counted, told of once for each agent, and requests answered."""

from __future__ import annotations

import logging
from typing import Final

from zmesh.runtime.counters import Counters
from zmesh.runtime.outbox import Outbox, answer_route
from zmesh.runtime.requests import UNKNOWN_AGENT
from zmesh.wire.data import Kind, Run, encode_failure

__all__ = ["LostProperty"]

logger = logging.getLogger("zmesh.data")

MAX_TOLD: Final = 1024  # agents; a peer may name as many as it likes


class LostProperty:
    """What comes for nobody."""

    def __init__(self, node_id: str, statistics: Counters) -> None:
        self._node_id = node_id
        self._statistics = statistics
        self._told: dict[int, None] = {}

    def take(self, outbox: Outbox, run: Run, first: int) -> None:
        """Drop a run whose first record is numbered ``first``; requests in it fail with ``UnknownAgent``."""
        self._statistics.lost_unknown_agent += len(run.payloads)
        if run.to_agent not in self._told and len(self._told) < MAX_TOLD:
            self._told[run.to_agent] = None
            logger.warning("dropped messages for agent %d, which is not here; more are counted only", run.to_agent)
        if run.kind is Kind.REQUEST:
            text = f"agent {run.to_agent} is not on node {self._node_id}"
            route = answer_route(outbox, Kind.FAILURE, run.from_agent, run.to_agent)
            for number in range(first, first + len(run.payloads)):
                outbox.append_reply(route, number, encode_failure(UNKNOWN_AGENT, text))

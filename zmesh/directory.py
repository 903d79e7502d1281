"""Which agent is on which node, and which can do what: the index behind ``Registry``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import count

from zmesh.core.membership.member import AgentRecord
from zmesh.errors import UnknownAgent

__all__ = ["Directory"]

logger = logging.getLogger("zmesh.registry")


class Directory:
    """Agents by id and by capability. Knows nothing of how nodes fare: that is asked of its caller."""

    def __init__(self) -> None:
        self._homes: dict[int, list[str]] = {}  # agent id -> the nodes that claim to have it, first come first
        self._capable: dict[str, list[tuple[int, str, bool]]] = {}  # capability -> (id, node id, healthy), in order
        self._turns: dict[str, Iterator[int]] = {}

    def add(self, node_id: str, agent: AgentRecord) -> None:
        """An agent is on a node."""
        homes = self._homes.setdefault(agent.agent_id, [])
        if homes:
            logger.warning(
                "agent %d is on node %s and on node %s: messages go to the first", agent.agent_id, homes[0], node_id
            )
        homes.append(node_id)
        self._list(node_id, agent)

    def change(self, node_id: str, before: AgentRecord, after: AgentRecord) -> None:
        """It is described anew, and keeps its place among those of its id."""
        self._unlist(node_id, before)
        self._list(node_id, after)

    def remove(self, node_id: str, agent: AgentRecord) -> None:
        """It is no longer there."""
        homes = self._homes[agent.agent_id]
        homes.remove(node_id)
        if not homes:
            del self._homes[agent.agent_id]
        self._unlist(node_id, agent)

    def _list(self, node_id: str, agent: AgentRecord) -> None:
        for capability in agent.capabilities:
            listed = self._capable.setdefault(capability, [])
            listed.append((agent.agent_id, node_id, agent.healthy))
            listed.sort()

    def _unlist(self, node_id: str, agent: AgentRecord) -> None:
        for capability in agent.capabilities:
            listed = self._capable[capability]
            listed.remove((agent.agent_id, node_id, agent.healthy))
            if not listed:
                del self._capable[capability]

    def homes_of(self, agent_id: int) -> list[str]:
        """The nodes that claim to have an agent, first come first."""
        return self._homes.get(agent_id, [])

    def choose(self, capability: str, takes_work: Callable[[str], bool]) -> int:
        """A healthy agent with a capability on a node that takes work, each in its turn. Raises ``UnknownAgent``."""
        capable = self._capable.get(capability, ())
        candidates = [agent_id for agent_id, node_id, healthy in capable if healthy and takes_work(node_id)]
        if not candidates:
            known = ", ".join(sorted(self._capable)) or "none"
            raise UnknownAgent(f"no active agent has the capability {capability!r}; capabilities known: {known}")
        turn = next(self._turns.setdefault(capability, count()))
        return candidates[turn % len(candidates)]

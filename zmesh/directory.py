"""Which agent is on which node, and which can do what: the index behind ``Registry``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import count

from zmesh.core.membership.messages import AgentRecord
from zmesh.errors import UnknownAgent

__all__ = ["Directory"]

logger = logging.getLogger("zmesh.registry")


class Directory:
    """Agents by id and by capability. Knows nothing of how nodes fare: that is asked of its caller."""

    def __init__(self) -> None:
        self._homes: dict[int, list[str]] = {}  # agent id -> the nodes that claim to have it, first come first
        self._capable: dict[str, list[tuple[int, str]]] = {}  # capability -> (agent id, node id), in order
        self._turns: dict[str, Iterator[int]] = {}

    def add(self, node_id: str, agent: AgentRecord) -> None:
        """An agent is on a node."""
        homes = self._homes.setdefault(agent.agent_id, [])
        if homes:
            logger.warning(
                "agent %d is on node %s and on node %s: messages go to the first", agent.agent_id, homes[0], node_id
            )
        homes.append(node_id)
        for capability in agent.capabilities:
            listed = self._capable.setdefault(capability, [])
            listed.append((agent.agent_id, node_id))
            listed.sort()

    def remove(self, node_id: str, agent: AgentRecord) -> None:
        """It is no longer there."""
        homes = self._homes[agent.agent_id]
        homes.remove(node_id)
        if not homes:
            del self._homes[agent.agent_id]
        for capability in agent.capabilities:
            listed = self._capable[capability]
            listed.remove((agent.agent_id, node_id))
            if not listed:
                del self._capable[capability]

    def homes_of(self, agent_id: int) -> list[str]:
        """The nodes that claim to have an agent, first come first."""
        return self._homes.get(agent_id, [])

    def choose(self, capability: str, is_active: Callable[[str], bool]) -> int:
        """An agent with a capability on an active node, each in its turn. Raises ``UnknownAgent``."""
        candidates = [agent_id for agent_id, node_id in self._capable.get(capability, ()) if is_active(node_id)]
        if not candidates:
            known = ", ".join(sorted(self._capable)) or "none"
            raise UnknownAgent(f"no active agent has the capability {capability!r}; capabilities known: {known}")
        turn = next(self._turns.setdefault(capability, count()))
        return candidates[turn % len(candidates)]

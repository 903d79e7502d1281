"""An agent for ``zmesh-node --agent``: told ``ID COUNT TEXT`` it sends so many messages there, waiting for none."""

from __future__ import annotations

import zmesh


class Pusher:
    """See the protocol in ``zmesh.tools.agents``."""

    capabilities = ("push",)

    async def start(self, agent: zmesh.Agent) -> None:
        """The node has joined."""
        self._agent = agent

    async def handle(self, message: zmesh.AgentMessage) -> None:
        """Send what it is told to."""
        to, count, text = message.payload.decode().split(" ")
        for number in range(int(count)):
            await self._agent.send(int(to), f"{text} {number}".encode())

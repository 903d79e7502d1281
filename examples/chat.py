"""A group chat: everybody in the group hears what one says, wherever they are.

python examples/chat.py alice       # in one terminal
python examples/chat.py bob         # in another, or on another machine of the mesh
"""

from __future__ import annotations

import asyncio
import os
import sys

import zmesh

GROUP = "chat"


def show(message: zmesh.AgentMessage) -> None:
    """The handler: a plain function will do."""
    print(message.payload.decode(errors="replace"))


async def announce_arrivals(network: zmesh.AgentNetwork) -> None:
    """Tell who joins the mesh."""
    async for event in network.registry.watch():
        if event.kind is zmesh.RegistryEventKind.NODE_JOINED and not event.node.is_self:
            print(f"* {event.node.node_id} is here")


async def chat(name: str) -> None:
    """Publish what is typed."""
    async with zmesh.AgentNetwork() as network:
        agent = await network.register_agent(os.getpid(), handler=show)
        await agent.join_group(GROUP)
        arrivals = asyncio.create_task(announce_arrivals(network))
        print(f"hello {name}: type, and Ctrl-D ends it")
        while line := await asyncio.to_thread(sys.stdin.readline):
            await agent.publish(GROUP, f"{name}: {line.rstrip()}".encode())
        arrivals.cancel()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    zmesh.run(chat(sys.argv[1]))

"""Request and reply by capability: workers that count words, and a client that does not know where they are.

python examples/worker.py work      # in one terminal, or several, or on several machines
python examples/worker.py ask "how many words are these"
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import zmesh

COUNT_WORDS = zmesh.Capability("count-words")


async def count_words(message: zmesh.AgentMessage) -> bytes:
    """The handler: what it returns is the answer, what it raises reaches the one who asked."""
    return f"{len(message.payload.split())} words, counted by process {os.getpid()}".encode()


async def work() -> None:
    """Answer until interrupted, and leave nobody without an answer."""
    async with zmesh.AgentNetwork() as network:
        agent = await network.register_agent(os.getpid(), [COUNT_WORDS.name], count_words)
        print(f"agent {agent.agent_id} on {network.node_id} counts words; Ctrl-C stops it")
        try:
            await asyncio.Event().wait()
        finally:
            left = await network.drain(timeout_s=5.0)  # nobody chooses this worker any more; what it has, it answers
            print(f"stopped with {left.handlers + left.queued} questions unanswered")


async def ask(text: str) -> None:
    """Wait for a worker and ask it."""
    async with zmesh.AgentNetwork() as network:
        agent = await network.register_agent(os.getpid())
        async for _ in network.registry.watch():  # begins with what is there already
            if network.registry.agents(capability=COUNT_WORDS.name):
                break
        answer = await agent.request(COUNT_WORDS, text.encode(), timeout_s=5.0)
        print(f"{answer.sender_node} says: {answer.payload.decode()}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work"]:
            with contextlib.suppress(KeyboardInterrupt):
                zmesh.run(work())
        case ["ask", text]:
            zmesh.run(ask(text))
        case _:
            sys.exit(__doc__)

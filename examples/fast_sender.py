"""Many small messages, each acknowledged: send without waiting, and wait for the last receipt alone.

    python examples/fast_sender.py              # both ends, in two processes on this machine

Messages to one agent arrive in the order they were sent, so the last one's acknowledgement covers all before it.
"""

from __future__ import annotations

import multiprocessing
import os
import time

import zmesh

MESSAGES = 500_000
PAYLOAD = b"x" * 64
RECEIVER_ID = 100


async def receive() -> None:
    """Count what comes."""
    async with zmesh.AgentNetwork() as network:
        agent = await network.register_agent(RECEIVER_ID)
        received = 0
        async for _message in agent:
            received += 1
            if received == MESSAGES:
                print(f"received all {received:,} messages")
                return


async def send() -> None:
    """Send it all and wait until it was acknowledged."""
    async with zmesh.AgentNetwork() as network:
        agent = await network.register_agent(os.getpid())
        await network.registry.wait_for_agent(RECEIVER_ID)
        start = time.perf_counter()
        for _ in range(MESSAGES - 1):
            await agent.send(RECEIVER_ID, PAYLOAD)  # waits only when the receiver is behind
        receipt = await agent.send(RECEIVER_ID, PAYLOAD)
        await receipt.delivered(timeout_s=60.0)  # raises PeerLost if the receiver is gone
        elapsed_s = time.perf_counter() - start
        print(f"sent {MESSAGES:,} messages, encrypted and acknowledged: {MESSAGES / elapsed_s:,.0f} a second")


def run_receiver() -> None:
    """The other process."""
    zmesh.run(receive())


if __name__ == "__main__":
    receiver = multiprocessing.get_context("spawn").Process(target=run_receiver, daemon=True)
    receiver.start()
    zmesh.run(send())
    receiver.join()

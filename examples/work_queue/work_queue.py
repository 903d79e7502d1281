"""A queue of jobs on one node, workers on others. It works, until an answer comes too late.

    python examples/work_queue/work_queue.py queue 5        # in one terminal: five jobs
    python examples/work_queue/work_queue.py worker 2       # in others: a worker, as agent 2, 3, ...

Every job shall be done once. ``HastyQueue`` hands a job out and forgets it. Where the worker has stopped waiting when
the answer arrives, because it was paused or cut off for a second, that job is nobody's: the answer is dropped as late,
and the worker asks for the next one. ``test_work_queue.py`` finds that by a seed. ``CarefulQueue`` remembers what it
has given to whom, until it is told that it is done.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import zmesh

QUEUE = 1
PATIENCE_S = 0.5  # with the queue, before it is asked again
PAUSE_S = 0.2


class HastyQueue:
    """Gives each job to who asks first."""

    def __init__(self, jobs: Iterable[bytes]) -> None:
        self.waiting = deque(jobs)

    def handle(self, message: zmesh.AgentMessage) -> bytes:
        """``take`` is answered with a job, or with nothing if there is none; ``done JOB`` with nothing."""
        word, _, job = message.payload.partition(b" ")
        return self.take(message.from_agent) if word == b"take" else self.done(message.from_agent, job)

    def take(self, worker: int) -> bytes:
        """A job for this worker."""
        return self.waiting.popleft() if self.waiting else b""

    def done(self, worker: int, job: bytes) -> bytes:
        """It has done that job."""
        return b""


class CarefulQueue(HastyQueue):
    """Gives a worker that asks again the job that it was given, until that is done."""

    def __init__(self, jobs: Iterable[bytes]) -> None:
        super().__init__(jobs)
        self.given: dict[int, bytes] = {}

    def take(self, worker: int) -> bytes:
        """The job it has, or a new one."""
        if worker not in self.given and self.waiting:
            self.given[worker] = self.waiting.popleft()
        return self.given.get(worker, b"")

    def done(self, worker: int, job: bytes) -> bytes:
        """It may have the next; told a second time, nothing changes."""
        if self.given.get(worker) == job:
            del self.given[worker]
        return b""


async def serve(network: zmesh.AgentNetwork, queue: HastyQueue) -> None:
    """Be the node of the queue."""
    async with network:
        await network.register_agent(QUEUE, ["queue"], handler=queue.handle)
        await asyncio.Event().wait()


async def work(network: zmesh.AgentNetwork, worker: int, do: Callable[[bytes], Awaitable[None]]) -> None:
    """Be the node of a worker."""
    async with network:
        agent = await network.register_agent(worker)
        while True:
            job = await ask(agent, b"take")
            if job:
                await do(job)
                await ask(agent, b"done " + job)
            else:
                await asyncio.sleep(PAUSE_S)


async def ask(agent: zmesh.Agent, question: bytes) -> bytes:
    """Ask the queue until it answers."""
    while True:
        try:
            return (await agent.request(QUEUE, question, timeout_s=PATIENCE_S)).payload
        except (zmesh.RequestTimeout, zmesh.PeerLost, zmesh.UnknownAgent):
            await asyncio.sleep(PAUSE_S)


async def main(role: str, number: int) -> None:
    """Either of the two, for real."""

    async def do(job: bytes) -> None:
        print(f"worker {number} does {job.decode()}", flush=True)
        await asyncio.sleep(PAUSE_S)

    if role == "queue":
        network = zmesh.AgentNetwork(zmesh.NetworkConfig(node_id="queue"))
        await serve(network, CarefulQueue(b"job %d" % job for job in range(number)))
    else:
        await work(zmesh.AgentNetwork(zmesh.NetworkConfig(node_id=f"worker{number}")), number, do)


if __name__ == "__main__":
    zmesh.run(main(sys.argv[1], int(sys.argv[2])))

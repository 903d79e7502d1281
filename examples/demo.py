"""zmesh by itself in a quarter of a minute: three nodes meet, talk, and notice that one of them was killed.

Starts three real ``zmesh-node`` processes on the loopback interface, each with a key directory of its own, as if they
were three machines. They are driven and watched the way any program can: commands on standard input, one JSON event a
line on standard output. Ends with exit code 1 if anything that should happen does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]
Start = Callable[..., Awaitable["Node"]]

PATIENCE_S = 15.0  # for any single thing to happen; what works takes less than two
PORTS_PER_NODE = 4


class DemoFailed(Exception):
    """Something that should have happened did not."""


class Node:
    """One ``zmesh-node --json`` process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise DemoFailed(f"{name} was started without pipes")
        self.name = name
        self.agent_id = 0  # of its echo agent; known from the banner
        self._process = process
        self._commands = process.stdin
        self._output = process.stdout
        self._events: list[Event] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, name: str, home: Path, port: int, join: str | None = None) -> Node:
        """Start the process, listening on ``port`` and the three after it."""
        arguments = ["--name", name, "--home", str(home / name), "--listen", f"tcp://127.0.0.1:{port}"]
        arguments += ["--no-mdns", "--json"] + (["--join", join] if join else [])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "zmesh.tools.node", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return cls(name, process)

    async def introduce(self) -> Event:
        """Wait for the banner."""
        banner = await self.expect(lambda event: event["event"] == "banner", "to say who it is")
        self.agent_id = banner["agents"][0]["agent_id"]
        return banner

    async def type(self, command: str) -> Event:
        """Give it a command, as at its prompt, and wait for the result."""
        name = command.split()[0]
        seen = len(self._events)
        self._commands.write(f"{command}\n".encode())
        await self._commands.drain()
        result = await self.expect(
            lambda event: event["event"] == "error" or (event["event"] == "result" and event["command"] == name),
            f"to answer {command!r}",
            since=seen,
        )
        if result["event"] == "error":
            raise DemoFailed(f"{self.name}: {command!r} failed: {result['text']}")
        return result

    async def expect(self, wanted: Callable[[Event], bool], what: str, since: int = 0) -> Event:
        """The first such event, as soon as it is there."""

        def found() -> Event | None:
            return next((event for event in self._events[since:] if wanted(event)), None)

        try:
            async with asyncio.timeout(PATIENCE_S), self._news:
                await self._news.wait_for(lambda: found() or self._reading.done())
        except TimeoutError:
            raise DemoFailed(f"waited {PATIENCE_S:g} s for {self.name} {what}") from None
        event = found()
        if event is None:
            raise DemoFailed(f"{self.name} ended with exit code {await self._process.wait()}, and was {what}")
        return event

    async def hears(self, text: str) -> Event:
        """Wait for a message with this payload."""
        return await self.expect(lambda e: e["event"] == "message" and e["payload"] == text, f"to hear {text!r}")

    async def sees(self, event: str, other: Node) -> Event:
        """Wait for this event about the other node."""
        return await self.expect(
            lambda e: e["event"] == event and e["node"]["node_id"] == other.name, f"to see that {other.name} {event}"
        )

    async def sees_agent_of(self, other: Node) -> None:
        """Wait until the other node's agent is in the registry."""
        await self.expect(
            lambda e: e["event"] == "agent_added" and e["agent"]["agent_id"] == other.agent_id,
            f"to see the agent of {other.name}",
        )

    def kill(self) -> int:
        """Kill the process, with no chance to say goodbye. Returns its pid."""
        self._process.send_signal(signal.SIGKILL)
        return self._process.pid

    async def end(self) -> int:
        """Kill the process if it still runs. Returns the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self.ended()

    async def ended(self) -> int:
        """The exit code, once the process has ended by itself."""
        await self._reading
        return await self._process.wait()

    async def _read(self) -> None:
        async for line in self._output:
            async with self._news:
                self._events.append(json.loads(line))
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()


def free_port_blocks() -> Iterator[int]:
    """The first ports of blocks of four that nobody has now, each block once."""
    for base in range(17650, 60000, PORTS_PER_NODE):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + PORTS_PER_NODE):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        yield base


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}")


def say(who: str, text: str) -> None:
    """Print what a node did or saw."""
    print(f"  {who:<7}{text}")


async def meet(start: Start) -> tuple[Node, Node, Node]:
    """Three nodes find each other: the first founds the mesh, the others are invited."""
    title("1. Three nodes, each with a key directory of its own. alpha founds the mesh and invites the others.")
    alpha = await start("alpha")
    banner = await alpha.introduce()
    say("alpha", f"founded the mesh {banner['mesh']!r}, at {banner['addresses'][0]}, key {banner['fingerprint']}")
    second = (await alpha.type("invite"))["join"]
    beta, gamma = await start("beta", banner["join"]), await start("gamma", second)
    for node, join in ((beta, banner["join"]), (gamma, second)):
        own = await node.introduce()
        say(node.name, f"zmesh-node --join {join[:16]}...   enrolled, key {own['fingerprint']}")
    nodes = (alpha, beta, gamma)
    for node in nodes:
        for other in nodes:
            if other is not node:
                await node.sees("node_joined", other)
                await node.sees_agent_of(other)
    say("all", "see each other and each other's echo agents; every connection is CURVE-encrypted and authenticated")
    return nodes


async def talk(alpha: Node, beta: Node, gamma: Node) -> None:
    """Point to point, group, broadcast."""
    title("2. They talk: to one agent, to a group, to everybody.")
    await beta.type(f"send {alpha.agent_id} hello from beta")
    heard = await alpha.hears("hello from beta")
    say("beta", f"zmesh> send {alpha.agent_id} hello from beta   (acknowledged)")
    say("alpha", f"heard {heard['payload']!r} from agent {heard['from_agent']} on {heard['from_node']}")

    for text in ("how are you", "and now that we are connected"):
        started = time.perf_counter()
        answer = await gamma.type(f"request {beta.agent_id} {text}")
        took_ms = (time.perf_counter() - started) * 1000
        say("gamma", f"zmesh> request {beta.agent_id} {text}")
        say("gamma", f"got the answer {answer['payload']!r} from {answer['from_node']}, {took_ms:.1f} ms after typing")

    for node in (beta, gamma):
        await node.type("join lab")
        say(node.name, "zmesh> join lab")
    await alpha.type("say #lab meeting in five minutes")
    say("alpha", "zmesh> say #lab meeting in five minutes")
    for node in (beta, gamma):
        heard = await node.hears("meeting in five minutes")
        say(node.name, f"heard {heard['payload']!r} in #{heard['group']} from {heard['from_node']}")

    await gamma.type("say hello everyone")
    say("gamma", "zmesh> say hello everyone")
    for node in (alpha, beta):
        heard = await node.hears("hello everyone")
        say(node.name, f"heard {heard['payload']!r} from {heard['from_node']}, to all")


async def lose_one(alpha: Node, beta: Node, gamma: Node) -> None:
    """One node is killed, the others notice and go on."""
    title("3. gamma is killed with SIGKILL: no goodbye.")
    killed_ms = time.time() * 1000
    say("gamma", f"kill -KILL {gamma.kill()}")
    for node in (alpha, beta):
        event = await node.sees("node_died", gamma)
        reason = f": {event['reason']}" if event.get("reason") else ""
        say(node.name, f"noticed after {(event['time_ms'] - killed_ms) / 1000:.1f} s{reason}")
    await alpha.type(f"send {beta.agent_id} we go on")
    await beta.hears("we go on")
    say("beta", "heard 'we go on' from alpha")


async def part(alpha: Node, beta: Node) -> None:
    """The others leave as they should."""
    title("4. The others leave.")
    await beta.type("quit")
    await alpha.sees("node_left", beta)
    say("alpha", "heard beta's goodbye")
    await alpha.type("quit")
    codes = [await node.ended() for node in (beta, alpha)]
    if codes != [0, 0]:
        raise DemoFailed(f"beta and alpha ended with exit codes {codes}")


@contextlib.asynccontextmanager
async def nodes_in(home: Path) -> AsyncIterator[Start]:
    """Gives a function that starts a node; whatever it started is ended with the context."""
    started: list[Node] = []
    ports = free_port_blocks()

    async def start(name: str, join: str | None = None) -> Node:
        started.append(await Node.start(name, home, next(ports), join))
        return started[-1]

    try:
        yield start
    finally:
        for node in started:
            await node.end()


async def demo() -> None:
    """The whole show."""
    with tempfile.TemporaryDirectory(prefix="zmesh-demo-") as home:
        async with nodes_in(Path(home)) as start:
            alpha, beta, gamma = await meet(start)
            await talk(alpha, beta, gamma)
            await lose_one(alpha, beta, gamma)
            await part(alpha, beta)


NEXT = """
Try it yourself:
  .venv/bin/zmesh-node                     a node with a prompt; its banner has the command for the next machine
  .venv/bin/zmesh members                  in another terminal: who is there (also: agents, send, request, listen)
  .venv/bin/zmesh request echo hi          ask whoever can echo
  .venv/bin/python examples/worker.py work         an agent of your own; in another terminal, ask it:
  .venv/bin/python examples/worker.py ask "how many words are these"
"""


def main() -> int:
    """Run the demo; returns the exit code."""
    started = time.monotonic()
    try:
        asyncio.run(demo())
    except DemoFailed as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    print(f"\nAll of it happened, in {time.monotonic() - started:.0f} seconds.{NEXT}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

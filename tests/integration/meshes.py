"""Whole nodes through the public API, several in one process, on loopback addresses."""

from __future__ import annotations

import asyncio
import functools
import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop

import zmesh

PATIENCE_S = 30.0  # for what takes milliseconds on an idle machine: only a test that has failed waits this long
POLL_S = 0.002
LOOPBACK = "tcp://127.0.0.1:0"
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

Test = Callable[..., Awaitable[None]]


async def until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds; one that never does fails the test, which says ``what`` it waited for."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s:g} s in vain until {what}"
        await asyncio.sleep(POLL_S)


def run(main: Awaitable[None], loop: str = "uvloop") -> None:
    """Run a test's coroutine; an exception that ends up in the loop's handler fails it."""
    escaped: list[str] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(repr(context)))
        await main
        gc.collect()  # a forgotten exception is reported when its task or future is collected
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(watched())
    assert escaped == [], f"exceptions escaped into the event loop: {escaped}"


def in_loop(test: Test) -> Callable[..., None]:
    """Make a test of a coroutine function; its argument ``loop``, if it has one, names the event loop."""

    @functools.wraps(test)
    def runs(**arguments: Any) -> None:
        run(test(**arguments), arguments.get("loop", "uvloop"))

    return runs


def config(home: Path, node_id: str, **settings: Any) -> zmesh.NetworkConfig:
    """A node that nobody outside of the test finds."""
    return zmesh.NetworkConfig(**({"home": home, "node_id": node_id, "listen": LOOPBACK, "mdns": False} | settings))


class Mesh:
    """Nodes of one home directory in this process; all that are still there leave when the ``async with`` ends."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._nodes: list[zmesh.AgentNetwork] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        async with AsyncExitStack() as stack:
            for node in self._nodes:
                stack.push_async_callback(node.leave_network)
                if kind is None and node.is_joined:
                    stack.callback(_check_health, node)

    async def node(self, node_id: str, *, by: zmesh.AgentNetwork | None = None, **settings: Any) -> zmesh.AgentNetwork:
        """Start a node, and have it join by another; returns when every node of this mesh sees every other."""
        network = zmesh.AgentNetwork(config(self.home, node_id, **settings))
        self._nodes.append(network)
        by = by or next((node for node in self._nodes if node.is_joined), None)
        await network.join_network(by.info().addresses if by is not None else ())
        joined = [node for node in self._nodes if node.is_joined]
        await asyncio.gather(*(node.registry.wait_for_nodes(len(joined), PATIENCE_S) for node in joined))
        return network

    async def pair(self, **settings: Any) -> tuple[zmesh.AgentNetwork, zmesh.AgentNetwork]:
        """The two nodes ``a`` and ``b`` that most tests want."""
        return await self.node("a", **settings), await self.node("b", **settings)


def _check_health(node: zmesh.AgentNetwork) -> None:
    internal = [incident for incident in node._past_incidents if incident.kind == "internal_error"]
    assert internal == [], f"zmesh broke an invariant of its own: {internal}"


async def agents(
    a: zmesh.AgentNetwork, b: zmesh.AgentNetwork, handler: Any = None, b_handler: Any = None
) -> tuple[zmesh.Agent, zmesh.Agent]:
    """Agent 7 on ``a`` and agent 9 on ``b``, each known on the other node."""
    seven, nine = await a.register_agent(7, handler=handler), await b.register_agent(9, handler=b_handler)
    await asyncio.gather(a.registry.wait_for_agent(9, PATIENCE_S), b.registry.wait_for_agent(7, PATIENCE_S))
    return seven, nine


async def read(agent: zmesh.Agent, count: int) -> list[zmesh.AgentMessage]:
    """The next ``count`` messages of an agent without a handler."""
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(agent) for _ in range(count)]


def statistics(*nodes: zmesh.AgentNetwork) -> dict[str, int]:
    """The counters of several nodes, added up."""
    names = zmesh.Statistics.__struct_fields__
    return {name: sum(getattr(node.statistics(), name) for node in nodes) for name in names}

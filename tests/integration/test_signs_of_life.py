"""Traffic on the data plane is a sign of life, where a node's heartbeats do not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import zmesh
from tests.integration.meshes import Mesh, agents, in_loop, until
from zmesh import NodeStatus
from zmesh.runtime.control_loop import ControlLoop
from zmesh.runtime.control_members import Members
from zmesh.runtime.signs import Signs

SILENT_MS = 3000  # no heartbeat for three times as long as it takes to be suspected


def control_of(network: zmesh.AgentNetwork) -> ControlLoop:
    assert network._node is not None
    return network._node._control._loop


def members_of(network: zmesh.AgentNetwork) -> Members:
    members = control_of(network).members
    assert isinstance(members, Members)
    return members


def node_b(network: zmesh.AgentNetwork) -> zmesh.NodeInfo:
    return next(node for node in network.registry.nodes() if node.node_id == "b")


@asynccontextmanager
async def talking(sender: zmesh.Agent, receiver: zmesh.Agent) -> AsyncIterator[None]:
    """Messages go all the time; broadcasts, too."""

    async def talk() -> None:
        while True:
            await sender.send(receiver.agent_id, b"still here")
            await sender.broadcast(b"still here")
            await asyncio.sleep(0.02)

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_it_sends_no_heartbeats(network: zmesh.AgentNetwork, other: zmesh.AgentNetwork) -> int:
    """From now on its control plane sends nothing; how many frames it has sent to the other."""
    control_of(network).links.send = lambda *_: None
    received = -1
    while received != (received := members_of(other).received):  # noqa: ASYNC110  # no event tells that nothing comes
        await asyncio.sleep(0.3)
    return received


@in_loop
async def test_who_talks_lives_though_no_heartbeat_comes(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b, handler=lambda message: None, b_handler=lambda message: None)
        async with talking(nine, seven):
            received = await until_it_sends_no_heartbeats(b, a)
            heard = node_b(a).last_heartbeat
            seen = set()

            def is_long_ago() -> bool:
                seen.add(node_b(a).status)
                return node_b(a).last_heartbeat > heard + SILENT_MS

            await until(is_long_ago, "b was silent, and seen, for long")
            assert seen == {NodeStatus.ACTIVE}
            assert members_of(a).received == received, "only the data plane has spoken"
        await until(lambda: node_b(a).status is NodeStatus.INACTIVE, "b is suspected when it says nothing at all")


@in_loop
async def test_without_the_signs_it_would_be_suspected(home: Path) -> None:
    """The check above can fail. And what the data plane notes is here, since nobody takes it."""
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b, handler=lambda message: None, b_handler=lambda message: None)
        members = members_of(a)
        signs, members._signs = members._signs, Signs()
        async with talking(nine, seven):
            await until_it_sends_no_heartbeats(b, a)
            await until(lambda: node_b(a).status is NodeStatus.INACTIVE, "b is suspected while it talks")
            await until(lambda: "b" in signs.names, "its messages were noted")
            key = control_of(b)._trust.identity.curve_public
            await until(lambda: key in signs.keys, "its broadcasts were noted")
            assert len(signs.names) <= 2
            assert len(signs.keys) == 1

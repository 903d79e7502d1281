"""A node in maintenance gets no new work by capability, everything else, and tells when its work is done."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, agents, in_loop, read, until
from zmesh import Capability, NodeStatus
from zmesh import RegistryEventKind as Kind
from zmesh.registry import Registry

WORK = Capability("work")


async def who_works(asker: zmesh.Agent, times: int = 6) -> set[int]:
    """Which agents get what is sent to the capability."""
    return {(await asker.request(WORK, b"", timeout_s=PATIENCE_S)).from_agent for _ in range(times)}


async def two_workers(mesh: Mesh) -> tuple[zmesh.AgentNetwork, zmesh.AgentNetwork, list[zmesh.Agent]]:
    """Nodes a and b, whose agents 1 and 2 can work, and agents 8 and 9 there that ask them."""
    a, b = await mesh.pair()
    for node, number in ((a, 1), (b, 2)):
        await node.register_agent(number, ["work"], handler=lambda message: b"done")
    askers = [await a.register_agent(8), await b.register_agent(9)]
    await asyncio.gather(a.registry.wait_for_agent(9, PATIENCE_S), b.registry.wait_for_agent(8, PATIENCE_S))
    return a, b, askers


def statuses(seen_by: zmesh.AgentNetwork, node_id: str) -> set[NodeStatus]:
    """How the node stands there, and each of its agents."""
    node = next(info for info in seen_by.registry.nodes() if info.node_id == node_id)
    return {node.status, *(agent.status for agent in seen_by.registry.agents(node_id=node_id))}


async def everywhere(status: NodeStatus, node_id: str, *nodes: zmesh.AgentNetwork) -> None:
    await until(lambda: all(statuses(node, node_id) == {status} for node in nodes), f"{node_id} is {status} everywhere")


@in_loop
async def test_a_node_in_maintenance_gets_no_work_by_capability_and_all_else(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        a, b, askers = await two_workers(mesh)
        listener = await a.register_agent(5)
        await listener.join_group("lab")
        a.set_maintenance(True)
        a.set_maintenance(True)
        await everywhere(NodeStatus.MAINTENANCE, "a", a, b)
        assert statuses(a, "b") == statuses(b, "b") == {NodeStatus.ACTIVE}
        for asker in askers:
            assert await who_works(asker) == {2}
            assert (await asker.request(1, b"", timeout_s=PATIENCE_S)).payload == b"done"
        await askers[1].send(5, b"by id")
        await askers[1].publish("lab", b"by group")
        assert {message.payload for message in await read(listener, 2)} == {b"by id", b"by group"}
        a.set_maintenance(False)
        await everywhere(NodeStatus.ACTIVE, "a", a, b)
        for asker in askers:
            assert await who_works(asker) == {1, 2}


@in_loop
async def test_without_the_rule_a_node_in_maintenance_is_given_work(home: Path) -> None:
    """The ablation of the rule that the test above is about: its check does not hold then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registry, "_takes_work", Registry._is_up)
        async with Mesh(home) as mesh:
            a, b, askers = await two_workers(mesh)
            a.set_maintenance(True)
            await everywhere(NodeStatus.MAINTENANCE, "a", a, b)
            for asker in askers:
                assert await who_works(asker) == {1, 2}


@in_loop
async def test_maintenance_is_told_once_and_who_comes_later_knows_of_it(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        told: list[tuple[Kind, NodeStatus]] = []

        async def watch() -> None:
            async for event in b.registry.watch():
                if event.node.node_id == "a":
                    told.append((event.kind, event.node.status))

        watching = asyncio.create_task(watch())
        await until(lambda: told, "the snapshot is there")
        for is_on, status in (
            (True, NodeStatus.MAINTENANCE),
            (False, NodeStatus.ACTIVE),
            (True, NodeStatus.MAINTENANCE),
        ):
            a.set_maintenance(is_on)
            await everywhere(status, "a", a, b)
        c = zmesh.AgentNetwork(zmesh.NetworkConfig(home=home, node_id="c", listen="tcp://127.0.0.1:0", mdns=False))
        async with c:
            await until(lambda: len(c.registry.nodes()) == 3, "c knows the mesh")
            await everywhere(NodeStatus.MAINTENANCE, "a", c)
        await b.leave_network()
        await watching
        assert told == [
            (Kind.NODE_JOINED, NodeStatus.ACTIVE),
            (Kind.NODE_CHANGED, NodeStatus.MAINTENANCE),
            (Kind.NODE_CHANGED, NodeStatus.ACTIVE),
            (Kind.NODE_CHANGED, NodeStatus.MAINTENANCE),
        ]


@in_loop
async def test_drain_waits_for_handlers_and_for_what_is_queued(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair(handler_concurrency=2)
        finish = asyncio.Event()
        finished: list[bytes] = []

        async def work(message: zmesh.AgentMessage) -> bytes:
            await finish.wait()
            finished.append(message.payload)
            return message.payload

        seven, _ = await agents(a, b, b_handler=work)
        asking = [asyncio.create_task(seven.request(9, b"%d" % n, timeout_s=PATIENCE_S)) for n in range(5)]
        await until(lambda: b.statistics().messages_delivered == 5, "all have come")
        left = await b.drain(timeout_s=0.05)
        assert left
        assert (left.handlers, left.queued) == (2, 3)
        draining = asyncio.create_task(b.drain(timeout_s=PATIENCE_S))
        await everywhere(NodeStatus.MAINTENANCE, "b", a, b)
        assert not draining.done()
        finish.set()
        left = await draining
        assert not left
        assert left == zmesh.Unfinished(handlers=0, queued=0, unacknowledged=0)
        assert sorted(finished) == [b"%d" % n for n in range(5)]
        assert [answer.payload for answer in await asyncio.gather(*asking)] == [b"%d" % n for n in range(5)]
        assert statuses(a, "b") == {NodeStatus.MAINTENANCE}, "it stays in maintenance"


@in_loop
async def test_drain_waits_for_messages_to_be_read(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b)
        await (await seven.send(9, b"unread")).delivered(PATIENCE_S)
        assert await b.drain(timeout_s=0) == zmesh.Unfinished(handlers=0, queued=1, unacknowledged=0)
        draining = asyncio.create_task(b.drain(timeout_s=PATIENCE_S))
        assert [message.payload for message in await read(nine, 1)] == [b"unread"]
        assert not await draining


@in_loop
async def test_nothing_that_was_given_to_a_node_is_lost_when_it_drains_and_leaves(home: Path) -> None:
    """What it is for: b is taken out of service under load, and nobody who asks by capability notices."""
    async with Mesh(home) as mesh:
        a, b, c = [await mesh.node(name) for name in "abc"]

        async def work(message: zmesh.AgentMessage) -> bytes:
            await asyncio.sleep(0)
            return message.payload

        for node, number in ((b, 2), (c, 3)):
            await node.register_agent(number, ["work"], handler=work)
        seven = await a.register_agent(7)
        await asyncio.gather(a.registry.wait_for_agent(2, PATIENCE_S), a.registry.wait_for_agent(3, PATIENCE_S))
        stop = asyncio.Event()
        workers: list[int] = []
        turns = [0] * 10  # of each asker

        async def ask(number: int) -> None:
            while not stop.is_set():
                workers.append((await seven.request(WORK, b"x", timeout_s=PATIENCE_S)).from_agent)
                turns[number] += 1

        asking = [asyncio.create_task(ask(number)) for number in range(10)]
        await until(lambda: {2, 3} <= set(workers), "both work")
        b.set_maintenance(True)
        await everywhere(NodeStatus.MAINTENANCE, "b", a)
        before = list(turns)
        await until(
            lambda: all(now > then for now, then in zip(turns, before, strict=True)), "b has its last work done"
        )
        assert not await b.drain(timeout_s=PATIENCE_S)
        await b.leave_network()
        after = len(workers)
        await until(lambda: len(workers) > after + 20, "the work goes on")
        stop.set()
        await asyncio.gather(*asking)
        assert set(workers[after:]) == {3}


@in_loop
async def test_who_drains_a_network_that_is_left_is_told(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, _ = await agents(a, b)
        await (await seven.send(9, b"unread")).delivered(PATIENCE_S)
        draining = asyncio.create_task(b.drain(timeout_s=10 * PATIENCE_S))
        await everywhere(NodeStatus.MAINTENANCE, "b", a)
        await b.leave_network()
        with pytest.raises(zmesh.NotJoined, match="left while it was being drained"):
            await draining


@pytest.mark.parametrize("timeout_s", [-1.0, float("inf"), float("nan")])
@in_loop
async def test_a_drain_is_bounded(home: Path, timeout_s: float) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        with pytest.raises(zmesh.UsageError, match="nothing waits for ever"):
            await a.drain(timeout_s)
        assert statuses(a, "a") == {NodeStatus.ACTIVE}


@in_loop
async def test_before_joining_there_is_nothing_to_maintain(home: Path) -> None:
    network = zmesh.AgentNetwork(zmesh.NetworkConfig(home=home))
    with pytest.raises(zmesh.NotJoined):
        network.set_maintenance(True)
    with pytest.raises(zmesh.NotJoined):
        await network.drain()

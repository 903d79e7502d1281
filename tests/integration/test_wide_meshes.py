"""A mesh of more members than a node should be connected to: an idle node hears nobody, and all still works.

The nodes here state two addresses, of which one answers, so that the way to each must be found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, config, in_loop, until
from tests.integration.test_groups import Ear
from zmesh import node as node_module
from zmesh.config import Timings
from zmesh.core.broadcast import PublisherEffect
from zmesh.core.membership import view
from zmesh.core.membership.settings import PRESETS
from zmesh.node import Node
from zmesh.runtime import publishing, subscription
from zmesh.runtime.publishing import Publishing
from zmesh.runtime.topic import PublishedTopic, topic_of

NODES = 8
NOBODY = "127.0.0.9"  # no node listens there
STATED = (NOBODY, "127.0.0.1")


def near_size(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setitem(PRESETS, "lan", replace(PRESETS["lan"], near_size=size))


@pytest.fixture(autouse=True)
def _time_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views are made seconds apart while a mesh grows."""
    monkeypatch.setattr(publishing, "FIRST_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(publishing, "SUBSCRIBE_TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def every_mesh_is_wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And has one ring, so that a node watches two others; they find each other by the first alone."""
    near_size(monkeypatch, 1)
    monkeypatch.setattr(node_module, "MAX_NEIGHBOURS", 0)
    view._places.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(view, "RINGS", 1)
        yield
    view._places.cache_clear()


def node_of(network: zmesh.AgentNetwork) -> Node:
    assert network._node is not None
    return network._node


def heard_by(network: zmesh.AgentNetwork) -> list[str]:
    return sorted(node_of(network).publishing._hearing._peers)


def linked_to(network: zmesh.AgentNetwork) -> list[str]:
    return sorted(node_of(network).plane.links.by_node)


def names(nodes: Sequence[zmesh.AgentNetwork], but: zmesh.AgentNetwork) -> list[str]:
    return sorted(node.node_id for node in nodes if node is not but)


class WideMesh(Mesh):
    """Nodes n0, n1, ... that start at once; node ``number`` has the agent ``number``, which is an ``Ear``."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.nodes: list[zmesh.AgentNetwork] = []
        self.ears: list[Ear] = []
        self.agents: list[zmesh.Agent] = []

    async def grow(self, count: int, **settings: object) -> None:
        """Start more nodes, up to ``count``; returns when all see all."""
        first = len(self.nodes)
        for number in range(first, count):
            network = zmesh.AgentNetwork(config(self.home, f"n{number}", advertise=STATED, **settings))
            self.nodes.append(network)
            self._nodes.append(network)
        if first == 0:
            await self.nodes[0].join_network()
        seed = self.nodes[0].info().addresses
        await asyncio.gather(*(node.join_network(seed) for node in self.nodes[max(first, 1) :]))
        for number, node in enumerate(self.nodes[first:], first):
            self.ears.append(Ear())
            self.agents.append(await node.register_agent(number, ["echo"], handler=self.ears[-1]))
        await self.all_see_all()

    async def all_see_all(self) -> None:
        for node in self.nodes:
            for number in range(len(self.nodes)):
                await node.registry.wait_for_agent(number, PATIENCE_S)

    async def all_hear(self, by: int, *payloads: bytes) -> None:
        """Every agent but that one has heard exactly these."""
        ears = [ear for number, ear in enumerate(self.ears) if number != by]
        await until(lambda: all(len(ear.heard) >= len(payloads) for ear in ears), f"all hear {payloads!r}")
        assert [ear.heard for ear in ears] == [list(payloads)] * len(ears)


@asynccontextmanager
async def wide_mesh(home: Path, count: int = NODES, **settings: object) -> AsyncIterator[WideMesh]:
    async with WideMesh(home) as mesh:
        await mesh.grow(count, **settings)
        yield mesh


# -- idle --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("every_mesh_is_wide")
@in_loop
async def test_an_idle_node_hears_nobody_and_has_no_links(home: Path) -> None:
    async with wide_mesh(home) as mesh:
        for node in mesh.nodes:
            assert (heard_by(node), linked_to(node), node_of(node).plane.links.awake()) == ([], [], [])
            assert node.statistics().frames_sent == 0


@pytest.mark.usefixtures("every_mesh_is_wide")
@in_loop
async def test_without_the_rule_an_idle_node_hears_all(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = Publishing.connect

    def eagerly(self: Publishing, *args: object, publishes: bool, is_wide: bool) -> None:
        connect(self, *args, publishes=True, is_wide=is_wide)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(Publishing, "connect", eagerly)
    async with wide_mesh(home, 4) as mesh:
        for node in mesh.nodes:
            assert heard_by(node) == names(mesh.nodes, node)


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("every_mesh_is_wide")
@in_loop
async def test_a_first_message_finds_its_way_and_only_those_who_speak_are_linked(home: Path, loop: str) -> None:
    async with wide_mesh(home) as mesh:
        senders = [agent for agent in mesh.agents if agent.agent_id not in (0, 5)]
        receipts = await asyncio.gather(*(agent.send(5, b"%d" % agent.agent_id) for agent in senders))
        for receipt in receipts:
            await receipt.delivered(PATIENCE_S)
        assert sorted(mesh.ears[5].heard) == sorted(b"%d" % agent.agent_id for agent in senders)
        everybody = names(mesh.nodes[1:], mesh.nodes[5])
        assert [linked_to(node) for node in mesh.nodes] == [
            [] if number == 0 else everybody if number == 5 else ["n5"] for number in range(NODES)
        ]
        found = [node.registry.agent(5) for node in mesh.nodes[1:5]]
        assert [agent.address for agent in found if agent is not None] == ["127.0.0.1"] * 4, "the address that answers"


@pytest.mark.usefixtures("every_mesh_is_wide")
@in_loop
async def test_a_request_finds_its_way_and_its_answer_too(home: Path, loop: str) -> None:
    async with wide_mesh(home, 5) as mesh:
        await mesh.nodes[4].register_agent(40, handler=lambda message: message.payload.upper())
        await mesh.nodes[2].registry.wait_for_agent(40, PATIENCE_S)
        assert (await mesh.agents[2].request(40, b"hello", timeout_s=PATIENCE_S)).payload == b"HELLO"


@pytest.mark.usefixtures("every_mesh_is_wide")
@in_loop
async def test_what_waits_for_a_way_that_nobody_finds_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with wide_mesh(home, 3, timings=Timings(resume_window_s=1.0)) as mesh:
        plane, asked = node_of(mesh.nodes[1]).plane, []
        monkeypatch.setattr(plane.ways, "_find", asked.append)  # and nothing comes of it
        monkeypatch.setattr(plane.links, "_addresses", {})
        monkeypatch.setattr(plane.links, "set_peer", lambda *_: None)
        receipt = await mesh.agents[1].send(2, b"lost")
        with pytest.raises(zmesh.RequestTimeout):
            await mesh.agents[1].request(2, b"?", timeout_s=0.2)
        with pytest.raises(zmesh.PeerLost, match="no connection to it could be made"):
            await receipt.delivered(PATIENCE_S)
        assert mesh.nodes[1].statistics().lost_peer_lost == 2, "the message and the request"
        assert asked[:2] == ["n2", "n2"], "it was looked for again"


# -- broadcast and groups ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("every_mesh_is_wide")
@in_loop
async def test_the_first_broadcast_of_a_node_reaches_all_and_then_all_hear_that_node(home: Path, loop: str) -> None:
    async with wide_mesh(home) as mesh:
        await (await mesh.agents[3].broadcast(b"first")).delivered(PATIENCE_S)
        await (await mesh.agents[3].broadcast(b"second")).delivered(PATIENCE_S)
        await mesh.all_hear(3, b"first", b"second")
        for node in mesh.nodes:
            assert heard_by(node) == ([] if node is mesh.nodes[3] else ["n3"])


@pytest.mark.usefixtures("every_mesh_is_wide")
@in_loop
async def test_without_the_wait_nobody_hears_the_first_broadcast(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(self: Publishing) -> None:
        """Wait for nobody."""

    async with wide_mesh(home, 4) as mesh:
        with monkeypatch.context() as patch:
            patch.setattr(Publishing, "wait_for_subscribers", at_once)
            await mesh.agents[3].broadcast(b"first")
        await (await mesh.agents[3].broadcast(b"second")).delivered(PATIENCE_S)
        await mesh.all_hear(3, b"second")


@pytest.mark.usefixtures("every_mesh_is_wide")
@in_loop
async def test_two_tasks_that_publish_first_both_wait(home: Path) -> None:
    async with wide_mesh(home, 4) as mesh:
        both = await asyncio.gather(mesh.agents[3].broadcast(b"1"), mesh.agents[3].broadcast(b"2"))
        for receipt in both:
            await receipt.delivered(PATIENCE_S)
        await mesh.all_hear(3, b"1", b"2")


@pytest.mark.usefixtures("every_mesh_is_wide")
@in_loop
async def test_a_group_hears_the_first_message_of_a_node_that_has_never_published(home: Path, loop: str) -> None:
    async with wide_mesh(home) as mesh:
        for agent in mesh.agents[:4]:
            await asyncio.wait_for(agent.join_group("lab"), 1.0)  # nobody publishes: there is nobody to wait for
            await agent.join_group("hall")
        await (await mesh.agents[6].publish("lab", b"hello")).delivered(PATIENCE_S)
        await until(lambda: all(ear.heard == [b"hello"] for ear in mesh.ears[:4]), "all in the group hear it")
        await (await mesh.agents[6].publish("hall", b"too")).delivered(PATIENCE_S)
        await until(lambda: all(ear.heard == [b"hello", b"too"] for ear in mesh.ears[:4]), "and the other group")
        assert [ear.heard for ear in mesh.ears[4:]] == [[]] * (NODES - 4)
        # Who publishes is heard now: joining waits for it, and misses nothing from then on.
        await mesh.agents[5].join_group("lab")
        await (await mesh.agents[6].publish("lab", b"again")).delivered(PATIENCE_S)
        await until(lambda: mesh.ears[5].heard == [b"again"], "who has joined since hears it")


@pytest.mark.usefixtures("every_mesh_is_wide")
@in_loop
async def test_the_broadcast_is_subscribed_to_after_the_groups(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "GROUPS_FIRST_S", PATIENCE_S)
    async with wide_mesh(home, 3) as mesh:
        await mesh.agents[1].join_group("lab")
        publisher = node_of(mesh.nodes[2]).publishing
        answer, asked = publisher._apply, []

        def silently(topic: PublishedTopic, effects: tuple[PublisherEffect, ...]) -> None:
            asked.extend([topic] * len(effects))  # none, where it is the tick that calls

        monkeypatch.setattr(publisher, "_apply", silently)
        sending = asyncio.create_task(mesh.agents[2].publish("lab", b"hello"))
        lab = publisher.topic("lab")
        await until(lambda: asked.count(lab) >= 2, "n1 asks for the group, again and again")
        assert not publisher.topic(None).publisher.is_subscribed("n1")
        assert not sending.done()
        monkeypatch.setattr(publisher, "_apply", answer)
        await sending
        await until(lambda: mesh.ears[1].heard == [b"hello"], "once the group is confirmed all goes on")
        assert topic_of("lab") in node_of(mesh.nodes[1]).publishing._hearing._peers["n2"].feeds


@pytest.mark.usefixtures("every_mesh_is_wide")
@in_loop
async def test_a_publisher_that_restarts_is_heard_again_from_its_first_message_on(home: Path) -> None:
    async with wide_mesh(home, 5) as mesh:
        await (await mesh.agents[4].broadcast(b"before")).delivered(PATIENCE_S)
        await mesh.all_hear(4, b"before")
        await mesh.nodes[4].leave_network()
        rest = mesh.nodes[:4]
        await until(lambda: all(heard_by(node) == [] for node in rest), "nobody hears it any more")
        for held in (mesh.nodes, mesh.ears, mesh.agents):
            held.pop()  # type: ignore[attr-defined]  # they are lists
        await mesh.grow(5)
        assert [heard_by(node) for node in rest] == [[]] * 4
        await (await mesh.agents[4].broadcast(b"after")).delivered(PATIENCE_S)
        await mesh.all_hear(4, b"before", b"after")


# -- growing -----------------------------------------------------------------------------------------------------------


@in_loop
async def test_a_mesh_that_becomes_wide_keeps_what_it_has(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near_size(monkeypatch, 3)
    async with wide_mesh(home, 3) as mesh:
        for node in mesh.nodes:
            await until(lambda n=node: heard_by(n) == names(mesh.nodes, n), "near, all hear all")  # type: ignore[misc]
        for agent in mesh.agents:
            await agent.join_group("lab")
        await (await mesh.agents[0].publish("lab", b"near")).delivered(PATIENCE_S)
        await mesh.grow(6)
        for node in mesh.nodes[:3]:
            assert set(heard_by(node)) >= {name for name in ("n0", "n1", "n2") if name != node.node_id}
        await until(lambda: all("n0" in heard_by(node) for node in mesh.nodes[3:]), "newcomers hear who publishes")
        await (await mesh.agents[0].broadcast(b"wide")).delivered(PATIENCE_S)
        await mesh.agents[5].join_group("lab")
        await (await mesh.agents[0].publish("lab", b"lab")).delivered(PATIENCE_S)
        await (await mesh.agents[4].publish("lab", b"new")).delivered(PATIENCE_S)
        await (await mesh.agents[4].broadcast(b"end")).delivered(PATIENCE_S)
        expected = [
            [b"wide", b"new", b"end"][1:],
            [b"near", b"wide", b"lab", b"new", b"end"],
            [b"near", b"wide", b"lab", b"new", b"end"],
            [b"wide", b"end"],
            [b"wide"],
            [b"wide", b"lab", b"new", b"end"],
        ]
        await until(lambda: [sorted(ear.heard) for ear in mesh.ears] == [sorted(e) for e in expected], "all is heard")

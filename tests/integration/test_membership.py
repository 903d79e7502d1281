"""Who is there: agents and nodes come, go, restart and share names, and every node hears of it in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import pytest

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, agents, config, in_loop, read, until
from zmesh import NodeStatus, RegistryEvent
from zmesh import RegistryEventKind as Kind


class Watcher:
    """Collects the events of a registry."""

    def __init__(self, network: zmesh.AgentNetwork) -> None:
        self.events: list[RegistryEvent] = []
        self._task = asyncio.create_task(self._collect(network))

    async def _collect(self, network: zmesh.AgentNetwork) -> None:
        async for event in network.registry.watch():
            self.events.append(event)

    @property
    def seen(self) -> list[tuple[Kind, str]]:
        """Each event's kind, and the agent or else the node it is about."""
        return [
            (event.kind, str(event.agent.agent_id) if event.agent is not None else event.node.node_id)
            for event in self.events
        ]

    async def end(self) -> None:
        await self._task


@in_loop
async def test_a_watch_begins_with_what_is_there_and_goes_on_in_order(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        await agents(a, b)
        watcher = Watcher(a)
        await until(lambda: len(watcher.events) == 4, "the snapshot is there")
        assert sorted(watcher.seen[:4], key=lambda seen: seen[1]) == [
            (Kind.AGENT_ADDED, "7"),
            (Kind.AGENT_ADDED, "9"),
            (Kind.NODE_JOINED, "a"),
            (Kind.NODE_JOINED, "b"),
        ]
        for node, agent in (("a", "7"), ("b", "9")):
            assert watcher.seen.index((Kind.NODE_JOINED, node)) < watcher.seen.index((Kind.AGENT_ADDED, agent))
        eight = await a.register_agent(8)
        await b.register_agent(10)
        await until(lambda: (Kind.AGENT_ADDED, "10") in watcher.seen, "the new agent is told")
        await eight.close()
        await b.unregister_agent(10)
        await until(lambda: (Kind.AGENT_REMOVED, "10") in watcher.seen, "its end is told")
        await b.leave_network()
        await until(lambda: (Kind.NODE_LEFT, "b") in watcher.seen, "the parting is told")
        await a.leave_network()
        await watcher.end()
        told = [seen for seen in watcher.seen[4:] if seen[0] is not Kind.NODE_CHANGED]
        assert [seen for seen in told if seen[1] in ("8",)] == [(Kind.AGENT_ADDED, "8"), (Kind.AGENT_REMOVED, "8")]
        assert [seen for seen in told if seen[1] != "8"] == [
            (Kind.AGENT_ADDED, "10"),
            (Kind.AGENT_REMOVED, "10"),
            (Kind.AGENT_REMOVED, "9"),
            (Kind.NODE_LEFT, "b"),
        ]


@in_loop
async def test_two_watchers_each_see_everything(home: Path) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        watchers = [Watcher(a), Watcher(a)]
        await until(lambda: all(watcher.events for watcher in watchers), "both watch")
        for number in range(50):
            await (await a.register_agent(number)).close()
        await a.leave_network()
        for watcher in watchers:
            await watcher.end()
            assert [seen for seen in watcher.seen if seen[0] is Kind.AGENT_ADDED] == [
                (Kind.AGENT_ADDED, str(number)) for number in range(50)
            ]


@in_loop
async def test_the_registry_finds_agents_by_what_they_can_do_and_where_they_are(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        await a.register_agent(1, ["sum", "mean"], metadata={"model": "x"})
        await b.register_agent(2, ["sum"])
        await b.register_agent(3)
        await asyncio.gather(a.registry.wait_for_agent(3), b.registry.wait_for_agent(1))
        for node in (a, b):
            found = node.registry
            assert [agent.agent_id for agent in found.agents()] == [1, 2, 3]
            assert [agent.agent_id for agent in found.agents("sum")] == [1, 2]
            assert [agent.agent_id for agent in found.agents(capability="mean", node_id="b")] == []
            assert [agent.agent_id for agent in found.agents(node_id="b", status=NodeStatus.ACTIVE)] == [2, 3]
            assert found.agents(status=NodeStatus.DISCONNECTED) == []
            one = found.agent(1)
            assert one is not None
            assert (one.node_id, one.capabilities, one.metadata) == ("a", ["sum", "mean"], {"model": "x"})
            assert found.agent(404) is None
            assert [(info.node_id, info.is_self) for info in found.nodes()] == [
                ("a", node is a),
                ("b", node is b),
            ]
            infos = {info.node_id: info for info in found.nodes()}
            assert infos["b"].agents == (2, 3)
            assert infos["a"].fingerprint == a.info().fingerprint
            assert infos["a"].incarnation == a.info().incarnation
            assert f"tcp://127.0.0.1:{infos['a'].port}" in a.info().addresses


@in_loop
async def test_agent_ids_are_taken_once_per_node(home: Path) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        seven = await a.register_agent(7)
        with pytest.raises(zmesh.AgentExists, match="agent 7 is registered on this node already"):
            await a.register_agent(7)
        await a.unregister_agent(7)
        with pytest.raises(zmesh.UnknownAgent, match="agent 7 is not registered"):
            await a.unregister_agent(7)
        assert a.registry.agents() == []
        again = await a.register_agent(7)
        for call in (seven.send(7, b""), seven.request(7, b"")):
            with pytest.raises(zmesh.UnknownAgent, match="was closed"):
                await call
        await again.send(7, b"to itself")
        assert [message.payload for message in await read(again, 1)] == [b"to itself"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"agent_id": -1},
        {"agent_id": 1 << 64},
        {"agent_id": "7"},
        {"agent_id": True},
        {"agent_id": 1, "capabilities": "sum"},
        {"agent_id": 1, "capabilities": [""]},
        {"agent_id": 1, "capabilities": [7]},
        {"agent_id": 1, "capabilities": ["\ud800"]},
        {"agent_id": 1, "capabilities": ["x" * 300]},
        {"agent_id": 1, "metadata": {"key": 7}},
        {"agent_id": 1, "metadata": {"key": "\ud800"}},
        {"agent_id": 1, "metadata": {"key": "x" * 70_000}},
        {"agent_id": 1, "handler": "no function"},
    ],
)
@in_loop
async def test_an_agent_that_no_peer_would_accept_is_refused_and_leaves_nothing_behind(
    home: Path, wrong: dict[str, object]
) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        with pytest.raises(zmesh.ConfigurationError):
            await a.register_agent(**wrong)  # type: ignore[arg-type]
        assert a.registry.agents() == []
        one = await a.register_agent(1)
        await b.registry.wait_for_agent(1, PATIENCE_S)
        assert one.capabilities == ()


@in_loop
async def test_agents_with_a_capability_take_turns(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        asked: list[int] = []
        for node, number in ((a, 1), (b, 2), (b, 3)):
            await node.register_agent(number, ["sum"], lambda message, number=number: asked.append(number))  # type: ignore[misc]
        four = await a.register_agent(4)
        await a.registry.wait_for_agent(3)
        for _ in range(30):
            answer = await four.request(zmesh.Capability("sum"), b"")
            assert answer.from_agent == asked[-1]
        for _ in range(30):
            await (await four.send(zmesh.Capability("sum"), b"")).delivered(PATIENCE_S)
        await until(lambda: len(asked) == 60, "all are asked")
        assert Counter(asked) == {1: 20, 2: 20, 3: 20}
        await b.leave_network()
        await until(lambda: a.registry.agents(node_id="b") == [], "b is gone")
        asked.clear()
        for _ in range(5):
            await four.request(zmesh.Capability("sum"), b"")
        assert asked == [1] * 5


@in_loop
async def test_two_agents_with_one_id_on_two_nodes(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It happens when a program is started twice. Messages go to the first, the operator is told."""
    async with Mesh(home) as mesh:
        a, b, c = [await mesh.node(name) for name in "abc"]
        heard: list[str] = []
        await a.register_agent(7, handler=lambda message: heard.append("a"))
        await c.registry.wait_for_agent(7)
        on_b = await b.register_agent(7, handler=lambda message: heard.append("b"))
        await until(lambda: len(c.registry.agents()) == 2, "both are known")
        assert "agent 7 is on node a and on node b: messages go to the first" in caplog.text
        one = await c.register_agent(1)
        for _ in range(3):
            await one.request(7, b"")
        await on_b.request(7, b"")
        assert heard == ["a", "a", "a", "b"], "a node's own agent is the nearest"
        home_of_7 = c.registry.agent(7)
        assert home_of_7 is not None
        assert home_of_7.node_id == "a"
        await a.leave_network()
        await until(lambda: len(c.registry.agents(node_id="a")) == 0, "the first is gone")
        await one.request(7, b"")
        assert heard[-1] == "b"


# -- nodes that come and go ------------------------------------------------------------------------------------------


@in_loop
async def test_what_is_on_its_way_arrives_before_a_node_leaves(home: Path) -> None:
    async with Mesh(home) as mesh:
        heard: list[bytes] = []
        a, b = await mesh.pair()
        seven, _ = await agents(a, b, b_handler=lambda message: heard.append(message.payload))
        for number in range(3000):
            await seven.send(9, b"%d" % number)
        await seven.send(9, bytes(5_000_000))
        await a.leave_network()
        await until(lambda: len(heard) == 3001, "all have arrived")
        assert heard[:3000] == [b"%d" % number for number in range(3000)]


@in_loop
async def test_a_node_that_has_left_is_disconnected_and_its_agents_unknown(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, _ = await agents(a, b)
        receipt = await seven.send(9, b"before")
        await receipt.delivered(PATIENCE_S)
        asked = asyncio.create_task(seven.request(9, b"never answered", timeout_s=PATIENCE_S))
        await until(lambda: b.statistics().messages_delivered == 2, "both are there")
        await b.leave_network()
        with pytest.raises((zmesh.PeerLost, zmesh.UnknownAgent)):
            await asked
        await until(lambda: a.registry.nodes(NodeStatus.DISCONNECTED), "a knows that b has left")
        with pytest.raises(zmesh.UnknownAgent):
            await seven.send(9, b"after")
        assert receipt.is_delivered


@in_loop
async def test_a_node_that_comes_back_is_met_anew(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, _ = await agents(a, b, handler=lambda message: message.payload)
        await (await seven.send(9, b"1")).delivered(PATIENCE_S)
        before = {info.node_id: info.incarnation for info in a.registry.nodes()}
        for count in range(3):
            await b.leave_network()
            b = await mesh.node("b", by=a)
            nine = await b.register_agent(9, handler=lambda message: message.payload[::-1])
            assert (await nine.request(7, b"forth")).payload == b"forth"
            await a.registry.wait_for_agent(9, PATIENCE_S)
            assert (await seven.request(9, b"back %d" % count)).payload == b"%d kcab" % count
        after = {info.node_id: info.incarnation for info in a.registry.nodes()}
        assert after["a"] == before["a"]
        assert after["b"] > before["b"]


@in_loop
async def test_the_event_of_a_return_tells_the_new_incarnation(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        events: list[zmesh.RegistryEvent] = []

        async def watch() -> None:
            async for event in a.registry.watch():
                events.append(event)

        watching = asyncio.create_task(watch())
        await b.leave_network()
        again = await mesh.node("b", by=a)
        joined = zmesh.RegistryEventKind.NODE_JOINED
        await until(
            lambda: [event.node.node_id for event in events if event.kind is joined].count("b") == 2, "it is told"
        )
        assert [event.node.incarnation for event in events if event.kind is joined][-1] == again.info().incarnation
        watching.cancel()
        await asyncio.wait((watching,))


@in_loop
async def test_one_network_object_can_join_again(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        await b.leave_network()
        await b.join_network(a.info().addresses)
        seven, nine = await agents(a, b)
        await seven.send(9, b"hello again")
        assert [message.payload for message in await read(nine, 1)] == [b"hello again"]


@in_loop
async def test_before_joining_and_after_leaving_every_call_says_so(home: Path) -> None:
    network = zmesh.AgentNetwork(config(home, "a"))

    async def refuses_everything() -> None:
        for call in (
            network.register_agent(1),
            network.unregister_agent(1),
            network.send_message(zmesh.AgentMessage(1, 2)),
            network.broadcast_message(b""),
        ):
            with pytest.raises(zmesh.NotJoined, match="not joined"):
                await call
        for ask in (
            network.info,
            network.statistics,
            network.invite,
            lambda: network.registry,
            lambda: network.node_id,
        ):
            with pytest.raises(zmesh.NotJoined):
                ask()

    await network.leave_network()
    await refuses_everything()
    async with network:
        agent = await network.register_agent(1)
        with pytest.raises(zmesh.UsageError, match="joined already"):
            await network.join_network()
    await refuses_everything()
    for call in (agent.send(1, b""), agent.request(1, b""), agent.publish("lab", b""), agent.broadcast(b"")):
        with pytest.raises(zmesh.NotJoined):
            await call
    await network.leave_network()


@in_loop
async def test_a_name_that_a_running_node_has_is_refused(home: Path) -> None:
    async with Mesh(home) as mesh:
        await mesh.node("a")
        second = zmesh.AgentNetwork(config(home, "a"))
        with pytest.raises(zmesh.KeystoreError, match="'a'"):
            await second.join_network()
        assert not second.is_joined


@in_loop
async def test_without_a_name_nodes_are_numbered(home: Path) -> None:
    async with Mesh(home) as mesh:
        first, second = await mesh.node(None), await mesh.node(None)  # type: ignore[arg-type]
        assert second.node_id == f"{first.node_id}-2"


@in_loop
async def test_an_address_where_nobody_answers_costs_the_others_nothing(home: Path) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        b = zmesh.AgentNetwork(config(home, "b", bootstrap=("tcp://127.0.0.1:9", "no-such-host.invalid:7650")))
        mesh._nodes.append(b)
        await b.join_network(["tcp://127.0.0.1:1", *a.info().addresses, "tcp://192.0.2.1:7650"])
        await b.registry.wait_for_nodes(2, PATIENCE_S)
        assert [info.node_id for info in b.registry.nodes(NodeStatus.ACTIVE)] == ["a", "b"]


@in_loop
async def test_where_nobody_answers_at_all_it_says_so_and_goes_on_asking(home: Path) -> None:
    async with Mesh(home) as mesh:
        b = zmesh.AgentNetwork(config(home, "b"))
        mesh._nodes.append(b)
        port = 29_650
        await b.join_network([f"tcp://127.0.0.1:{port}"])
        async with aclosing(b.incidents()) as incidents:  # type: ignore[type-var]
            async for incident in incidents:
                if incident.kind == "nobody_answered":
                    break
        assert f"nobody has answered at tcp://127.0.0.1:{port} within 3 s" in incident.reason
        a = zmesh.AgentNetwork(config(home, "a", listen=f"tcp://127.0.0.1:{port}"))
        mesh._nodes.append(a)
        await a.join_network()
        await b.registry.wait_for_nodes(2, PATIENCE_S)


@in_loop
async def test_past_incidents_are_told_to_who_asks_later(home: Path) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a", bootstrap=("tcp://no-such-host.invalid:7650",))
        seen: list[zmesh.Incident] = []

        async def watch() -> None:
            async for incident in a.incidents():
                seen.append(incident)

        await until(lambda: a._past_incidents, "the name that does not resolve is reported")
        task = asyncio.create_task(watch())
        await until(lambda: seen, "it is told to who asks later")
        assert "no-such-host.invalid" in seen[0].reason
        await a.leave_network()
        await task

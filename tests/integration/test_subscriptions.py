"""Subscriptions come about although nodes leave, restart and move, and although answers get lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, agents, in_loop, until
from tests.integration.test_groups import Ear
from zmesh import coordinator
from zmesh.core.broadcast import TellSubscriber
from zmesh.runtime.link import PeerAddress
from zmesh.runtime.publishing import Publishing
from zmesh.runtime.topic import PublishedTopic, topic_of


def publishing_of(network: zmesh.AgentNetwork) -> Publishing:
    assert network._node is not None
    return network._node.publishing


async def counts_as_subscriber(publisher: zmesh.AgentNetwork, subscriber: str, group: str) -> None:
    topic = publishing_of(publisher).topic(group)
    await until(lambda: topic.publisher.is_subscribed(subscriber), f"{subscriber} hears {group!r}")


@in_loop
async def test_joining_a_group_does_not_wait_for_a_node_that_has_left(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "PARTING_GRACE_S", PATIENCE_S)
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, _ = await agents(a, b)
        await b.leave_network()
        await until(lambda: len(a.registry.nodes(zmesh.NodeStatus.ACTIVE)) == 1, "a knows")
        await seven.join_group("lab")
        assert publishing_of(a)._hearing.hears("b", a.registry.incarnation_of("b")), "its word may come yet"
        assert "did not confirm" not in caplog.text


@in_loop
async def test_who_waits_for_a_node_that_leaves_waits_no_longer(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, _ = await agents(a, b)
        publishing_of(b)._apply = lambda topic, effects: None  # type: ignore[method-assign]  # it never answers
        joining = asyncio.create_task(seven.join_group("lab"))
        await counts_as_subscriber(b, "a", "lab")
        assert not joining.done()
        await b.leave_network()
        await joining
        assert "did not confirm" not in caplog.text


@in_loop
async def test_a_lost_answer_is_asked_for_again(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        ear = Ear()
        seven, nine = await agents(a, b, b_handler=ear)
        publishing, lost = publishing_of(a), []
        apply = publishing._apply

        def losing_the_first(topic: PublishedTopic, effects: Any) -> None:
            effects = list(effects)
            if not lost and topic.topic == topic_of("lab") and any(isinstance(e, TellSubscriber) for e in effects):
                lost.append(effects)
                topic.publisher.remove("b")  # as when the restart of b becomes known only now
            else:
                apply(topic, effects)

        publishing._apply = losing_the_first  # type: ignore[method-assign]
        await nine.join_group("lab")
        assert len(lost) == 1
        assert "did not confirm" not in caplog.text
        await counts_as_subscriber(a, "b", "lab")
        await (await seven.publish("lab", b"x")).delivered(PATIENCE_S)
        await until(lambda: ear.heard == [b"x"], "it is heard")
        await nine.leave_group("lab")  # the subscription was made twice, and must be gone all the same
        await until(lambda: not publishing.topic("lab").publisher.is_subscribed("b"), "a knows that b has left it")
        await nine.join_group("lab")
        await (await seven.publish("lab", b"y")).delivered(PATIENCE_S)
        await until(lambda: ear.heard == [b"x", b"y"], "and it can be joined again")


@in_loop
async def test_nothing_is_lost_when_a_publisher_moves(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a", listen="tcp://0.0.0.0:0")
        b = await mesh.node("b")
        ear = Ear()
        seven, nine = await agents(a, b, b_handler=ear)
        await nine.join_group("lab")
        hearing = publishing_of(b)._hearing
        peer = hearing._peers["a"]
        port = peer.address.endpoint.rpartition(":")[2]
        places = [f"tcp://127.0.0.{number}:{port}" for number in (2, 3, 4)]
        sent = [b"first"]
        await seven.publish("lab", sent[0])
        await until(lambda: b.registry._nodes["a"].record.publishes, "a has said so, with its old address")
        for number in range(300):
            sent.append(b"%d" % number)
            await seven.publish("lab", sent[-1])
            if number % 100 == 50:
                place = PeerAddress(places[number // 100], peer.address.curve_public)
                publishing_of(b).connect("a", peer.incarnation, place, publishes=False, is_wide=False)
                joining = asyncio.create_task(nine.join_group(f"room {number}"))
            await asyncio.sleep(0)
        await joining
        await until(lambda: len(ear.heard) == len(sent), "all are heard")
        assert ear.heard == sent
        assert b.statistics().lost_topic_gap == 0
        assert peer.address.endpoint == places[-1]
        assert "did not confirm" not in caplog.text

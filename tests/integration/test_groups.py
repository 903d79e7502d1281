"""Groups and broadcast: everybody who has joined hears everything, in order and once, and nobody else does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, in_loop, read, until

MIB = 1024 * 1024


class Ear:
    """An agent that notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.messages: list[zmesh.AgentMessage] = []

    def __call__(self, message: zmesh.AgentMessage) -> None:
        self.heard.append(message.payload)
        self.messages.append(message)


@in_loop
async def test_a_group_reaches_its_members_on_every_node_and_nobody_else(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        nodes = [await mesh.node(name) for name in "abc"]
        ears = [[Ear(), Ear(), Ear()] for _ in nodes]
        members = []
        for number, (node, (first, second, outside)) in enumerate(zip(nodes, ears, strict=True)):
            for index, ear in enumerate((first, second)):
                member = await node.register_agent(10 * number + index, handler=ear)
                await member.join_group("lab")
                members.append(member)
            await node.register_agent(10 * number + 9, handler=outside)
        receipt = await members[0].publish("lab", b"from 0")
        await receipt.delivered(PATIENCE_S)
        others = [ear for node_ears in ears for ear in node_ears[:2]][1:]
        await until(lambda: all(ear.heard == [b"from 0"] for ear in others), "every other member has heard it")
        assert ears[0][0].heard == [], "its publisher does not hear it"
        assert [node_ears[2].heard for node_ears in ears] == [[], [], []]
        message = others[-1].messages[0]
        assert (message.from_agent, message.to_agent, message.group, message.sender_node) == (0, None, "lab", "a")
        assert message.message_type is zmesh.MessageType.BROADCAST
        assert message.message_id == receipt.message_id
        assert others[0].messages[0].message_id == receipt.message_id, "on its own node, too"


@in_loop
async def test_groups_are_apart_even_where_one_name_begins_another(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        publisher = await a.register_agent(1)
        ears = {name: Ear() for name in ("la", "lab", "lab-2", "*", "ü" * 100)}
        for number, (name, ear) in enumerate(ears.items(), 10):
            await (await b.register_agent(number, handler=ear)).join_group(name)
        for name in ears:
            await (await publisher.publish(name, name.encode())).delivered(PATIENCE_S)
        await until(lambda: all(ear.heard for ear in ears.values()), "each has heard")
        assert {name: ear.heard for name, ear in ears.items()} == {name: [name.encode()] for name in ears}


@in_loop
async def test_what_is_published_after_joining_is_heard_whole_and_in_order(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        nodes = [await mesh.node(name) for name in "abc"]
        publishers = [await nodes[0].register_agent(1), await nodes[1].register_agent(2)]
        ear = Ear()
        await (await nodes[2].register_agent(3, handler=ear)).join_group("lab")

        async def publish(publisher: zmesh.Agent) -> None:
            for number in range(3000):
                size = 20_000 if number % 100 == 0 else 10
                last = await publisher.publish("lab", b"%d %d " % (publisher.agent_id, number) + bytes(size))
            await last.delivered(PATIENCE_S)

        await asyncio.gather(*map(publish, publishers))
        await until(lambda: len(ear.heard) == 6000, "everything is heard")
        for publisher in publishers:
            own = [payload.split(b" ")[1] for payload in ear.heard if payload.startswith(b"%d " % publisher.agent_id)]
            assert own == [b"%d" % number for number in range(3000)]
        assert nodes[2].statistics().lost_topic_gap == 0


@pytest.mark.parametrize("size", [0, 64 * 1024, 64 * 1024 + 1, MIB])
@in_loop
async def test_what_is_published_may_have_up_to_a_mebibyte(home: Path, size: int) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        publisher, listener = await a.register_agent(1), await b.register_agent(2)
        await listener.join_group("lab")
        for group in ("lab", None):
            payload = bytes(size)
            sent = publisher.broadcast(payload) if group is None else publisher.publish(group, payload)
            await (await sent).delivered(PATIENCE_S)
            (message,) = await read(listener, 1)
            assert len(message.payload) == size
        with pytest.raises(zmesh.MessageTooLarge, match="1048577 bytes: a published message holds at most 1048576"):
            await publisher.publish("lab", bytes(MIB + 1))


@in_loop
async def test_who_leaves_hears_no_more(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        publisher = await a.register_agent(1)
        ears = [Ear(), Ear(), Ear()]
        members = [await b.register_agent(number, handler=ear) for number, ear in enumerate(ears, 10)]
        for member in members:
            await member.join_group("lab")
            await member.join_group("lab")
        await (await publisher.publish("lab", b"1")).delivered(PATIENCE_S)
        await until(lambda: all(ear.heard == [b"1"] for ear in ears), "all have heard it, once")
        await members[0].leave_group("lab")
        await members[0].leave_group("never joined")
        await members[1].close()
        await (await publisher.publish("lab", b"2")).delivered(PATIENCE_S)
        await until(lambda: ears[2].heard == [b"1", b"2"], "who stayed has heard it")
        assert [ear.heard for ear in ears[:2]] == [[b"1"], [b"1"]]
        await members[2].leave_group("lab")
        await (await publisher.publish("lab", b"3")).delivered(PATIENCE_S)
        await members[2].join_group("lab")
        await (await publisher.publish("lab", b"4")).delivered(PATIENCE_S)
        await until(lambda: ears[2].heard[-1] == b"4", "who came back hears it")
        # It may hear what was published when it was not there: the frame can be overtaken by its joining again.
        assert ears[2].heard in ([b"1", b"2", b"4"], [b"1", b"2", b"3", b"4"])


@in_loop
async def test_a_group_with_nobody_in_it_takes_what_is_published(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, _ = await mesh.pair()
        publisher = await a.register_agent(1)
        await publisher.join_group("alone")
        for group in ("nobody", "alone"):
            for _ in range(200):
                last = await publisher.publish(group, bytes(100_000))
            await last.delivered(PATIENCE_S)


@in_loop
async def test_a_broadcast_reaches_every_agent_but_its_sender(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        nodes = [await mesh.node(name) for name in "abc"]
        ears = [Ear() for _ in range(6)]
        everybody = [await nodes[number % 3].register_agent(number, handler=ear) for number, ear in enumerate(ears, 1)]
        await (await everybody[0].broadcast(b"hello")).delivered(PATIENCE_S)
        await until(lambda: all(ear.heard == [b"hello"] for ear in ears[1:]), "all others have heard it")
        assert ears[0].heard == []
        await (await nodes[0].broadcast_message(b"from the node")).delivered(PATIENCE_S)
        await until(lambda: all(ear.heard[-1:] == [b"from the node"] for ear in ears), "all have heard it")
        message = ears[-1].messages[-1]
        assert (message.from_agent, message.to_agent, message.group) == (0, None, None)
        made = zmesh.AgentMessage(from_agent=2, payload=b"made")
        await (await nodes[2].send_message(made)).delivered(PATIENCE_S)
        await until(lambda: all(ear.heard[-1:] == [b"made"] for ear in ears[2:]), "a message made so is heard")


@in_loop
async def test_who_joins_later_hears_the_broadcast_too(home: Path) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        speaker = await a.register_agent(1)
        for name in "bcd":
            node = await mesh.node(name)
            ear = Ear()
            listener = await node.register_agent(ord(name), handler=ear)
            await listener.join_group("lab")
            await (await speaker.publish("lab", b"group")).delivered(PATIENCE_S)
            await until(lambda ear=ear: ear.heard == [b"group"], f"{name} hears the group it has joined")  # type: ignore[misc]


@in_loop
async def test_a_publisher_waits_for_a_member_that_does_not_read(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair(window_bytes=256 * 1024)
        publisher, listener = await a.register_agent(1), await b.register_agent(2)
        await listener.join_group("lab")
        published = 0

        async def publish() -> None:
            nonlocal published
            for number in range(400):
                await publisher.publish("lab", number.to_bytes(4, "big") + bytes(10_000))
                published += 1

        task = asyncio.create_task(publish())
        await until(lambda: b.statistics().messages_delivered > 10, "some are there")
        # One of these reads makes room for one message; were there no window, all 400 would be published at once.
        first = await read(listener, 1)
        assert published < 200
        rest = await read(listener, 399)
        await task
        assert [int.from_bytes(message.payload[:4], "big") for message in first + rest] == list(range(400))


@pytest.mark.parametrize("wrong", ["", "a\0b", "x" * 201, "ü" * 101, "\ud800", 7, None])
@in_loop
async def test_a_group_needs_a_name(home: Path, wrong: str) -> None:
    async with Mesh(home) as mesh:
        one = await (await mesh.node("a")).register_agent(1)
        for call in (one.join_group, one.leave_group):
            with pytest.raises(zmesh.UsageError, match="a group's name"):
                await call(wrong)
        if wrong is not None:
            with pytest.raises(zmesh.UsageError, match="a group's name"):
                await one.publish(wrong, b"")


@in_loop
async def test_what_is_published_is_bytes(home: Path) -> None:
    async with Mesh(home) as mesh:
        one = await (await mesh.node("a")).register_agent(1)
        for wrong in ("text", None, 7):
            with pytest.raises(zmesh.UsageError, match="a payload is bytes"):
                await one.publish("lab", wrong)  # type: ignore[arg-type]
            with pytest.raises(zmesh.UsageError, match="a payload is bytes"):
                await one.broadcast(wrong)  # type: ignore[arg-type]
        await (await one.publish("lab", bytearray(b"x"))).delivered(PATIENCE_S)  # type: ignore[arg-type]  # a courtesy


@in_loop
async def test_an_agent_that_is_gone_joins_nothing(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        one, ear = await a.register_agent(1), Ear()
        two = await b.register_agent(2)
        await two.close()
        for call in (two.join_group("lab"), two.leave_group("lab"), two.publish("lab", b""), two.broadcast(b"")):
            with pytest.raises(zmesh.UnknownAgent, match=r"Agent\(2, capabilities=\[\]\) was closed"):
                await call
        successor = await b.register_agent(2, handler=ear)
        assert successor.agent_id == 2
        await (await one.publish("lab", b"x")).delivered(PATIENCE_S)
        await (await one.broadcast(b"y")).delivered(PATIENCE_S)
        await until(lambda: ear.heard, "the broadcast is heard")
        assert ear.heard == [b"y"]

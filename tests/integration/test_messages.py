"""The main job, point to point: what is sent arrives, once, in order, as it was sent, or its sender is told."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, agents, in_loop, read, statistics, until

KIB, MIB = 1024, 1024 * 1024


def pattern(size: int) -> bytes:
    """Bytes in which a chunk that is lost, doubled or moved shows."""
    block = b"".join(hashlib.blake2b(number.to_bytes(4, "big")).digest() for number in range(1601))  # no power of two
    return (block * (size // len(block) + 1))[:size]


@in_loop
async def test_a_message_arrives_as_it_was_sent(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        seven, nine = await agents(*await mesh.pair())
        before_ms = time.time_ns() // 1_000_000
        receipt = await seven.send(
            9,
            b"payload",
            priority=zmesh.MessagePriority.CRITICAL,
            ttl_ms=60_000,
            message_type=zmesh.MessageType.STATE_SYNC,
        )
        (message,) = await read(nine, 1)
        assert (message.from_agent, message.to_agent, message.payload) == (7, 9, b"payload")
        assert message.priority is zmesh.MessagePriority.CRITICAL
        assert message.message_type is zmesh.MessageType.STATE_SYNC
        assert message.ttl == 60_000
        assert message.message_id == receipt.message_id
        assert message.sender_node == "a"
        assert message.group is None
        assert before_ms <= message.timestamp <= time.time_ns() // 1_000_000
        await receipt.delivered(PATIENCE_S)
        assert receipt.is_delivered


@in_loop
async def test_plain_and_coroutine_handlers_get_messages(home: Path) -> None:
    async with Mesh(home) as mesh:
        plain: list[bytes] = []
        waited: list[bytes] = []

        async def coroutine(message: zmesh.AgentMessage) -> None:
            await asyncio.sleep(0)
            waited.append(message.payload)

        class Callable:
            async def __call__(self, message: zmesh.AgentMessage) -> bytes:
                return message.payload[::-1]

        a, b = await mesh.pair()
        seven, _ = await agents(a, b, b_handler=lambda message: plain.append(message.payload))
        await b.register_agent(10, handler=coroutine)
        await b.register_agent(11, handler=Callable())
        await a.registry.wait_for_agent(11)
        for to in (9, 10):
            await (await seven.send(to, b"x%d" % to)).delivered(PATIENCE_S)
        await until(lambda: plain == [b"x9"] and waited == [b"x10"], "both handlers have run")
        assert (await seven.request(11, b"abc")).payload == b"cba"


@pytest.mark.parametrize("size", [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB, MIB + 1, 2 * MIB, 5 * MIB + 7])
@in_loop
async def test_payloads_of_any_size_travel_both_ways(home: Path, size: int) -> None:
    async with Mesh(home) as mesh:
        seven, nine = await agents(*await mesh.pair())
        payload = pattern(size)
        receipt = await seven.send(9, payload)
        (message,) = await read(nine, 1)
        assert message.payload == payload
        assert message.message_id == receipt.message_id
        asked = asyncio.create_task(seven.request(9, payload))
        (question,) = await read(nine, 1)
        assert question.payload == payload
        await nine.reply(question, payload[::-1])
        answer = await asked
        assert answer.payload == payload[::-1]
        assert (answer.from_agent, answer.to_agent, answer.message_type) == (9, 7, zmesh.MessageType.RESPONSE)
        await receipt.delivered(PATIENCE_S)


@in_loop
async def test_64_mib_is_the_most_that_a_message_holds(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b)
        payload = pattern(64 * MIB)
        receipt, (message,) = await asyncio.gather(seven.send(9, payload), read(nine, 1))
        assert message.payload == payload
        await receipt.delivered(PATIENCE_S)
        del message
        payload += b"!"
        for refused in (seven.send(9, payload), seven.request(9, payload), seven.send(7, payload)):
            with pytest.raises(zmesh.MessageTooLarge, match="67108865 bytes"):
                await refused
        with pytest.raises(zmesh.MessageTooLarge):
            await a.send_message(zmesh.AgentMessage(from_agent=7, to_agent=9, payload=payload))


@in_loop
async def test_a_limit_of_ones_own_counts(home: Path) -> None:
    async with Mesh(home) as mesh:
        seven, nine = await agents(*await mesh.pair(max_message_bytes=100))
        with pytest.raises(zmesh.MessageTooLarge, match="101 bytes, and max_message_bytes is 100"):
            await seven.send(9, bytes(101))
        await seven.send(9, bytes(100))
        assert [len(message.payload) for message in await read(nine, 1)] == [100]


@in_loop
async def test_bytes_like_payloads_are_taken_and_others_refused(home: Path) -> None:
    async with Mesh(home) as mesh:
        seven, nine = await agents(*await mesh.pair())
        mutable = bytearray(b"first")
        await seven.send(9, mutable)
        mutable[:] = b"after"
        await seven.send(9, memoryview(b"-second-")[1:-1])
        assert [message.payload for message in await read(nine, 2)] == [b"first", b"second"]
        for wrong in ("text", None, [1]):
            with pytest.raises(zmesh.UsageError, match="a payload is bytes"):
                await seven.send(9, wrong)  # type: ignore[arg-type]
            with pytest.raises(zmesh.UsageError, match="a payload is bytes"):
                await seven.request(9, wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [(10,), (10, 70_000, 0, 3_000_000, 60_000)], ids=["small", "mixed"])
@in_loop
async def test_messages_of_a_pair_arrive_in_order_each_once_both_ways(
    home: Path, loop: str, sizes: tuple[int, ...]
) -> None:
    count = 20_000 if len(sizes) == 1 else 60
    async with Mesh(home) as mesh:
        ends = await agents(*await mesh.pair())

        async def push(sender: zmesh.Agent, to: int) -> None:
            for number in range(count):
                last = await sender.send(to, number.to_bytes(8, "big") + bytes(sizes[number % len(sizes)]))
            await last.delivered(PATIENCE_S)

        async def pull(receiver: zmesh.Agent) -> list[tuple[int, int]]:
            return [
                (int.from_bytes(message.payload[:8], "big"), len(message.payload) - 8)
                for message in await read(receiver, count)
            ]

        _, _, *received = await asyncio.gather(push(ends[0], 9), push(ends[1], 7), pull(ends[0]), pull(ends[1]))
        expected = [(number, sizes[number % len(sizes)]) for number in range(count)]
        assert received == [expected, expected]


@in_loop
async def test_receipts_of_many_messages_are_all_fulfilled(home: Path) -> None:
    async with Mesh(home) as mesh:
        got: list[bytes] = []
        seven, _ = await agents(*await mesh.pair(), b_handler=lambda message: got.append(message.payload))
        receipts = [await seven.send(9, b"%d" % number) for number in range(5000)]
        await asyncio.gather(*(receipt.delivered(PATIENCE_S) for receipt in receipts))
        assert len({receipt.message_id for receipt in receipts}) == 5000
        assert got == [b"%d" % number for number in range(5000)]


@in_loop
async def test_a_message_made_by_the_user_keeps_its_id_time_and_fields(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        _, nine = await agents(a, b)
        ten = await a.register_agent(10)
        for to, receiver in ((9, nine), (10, ten)):
            made = zmesh.AgentMessage(
                from_agent=7,
                to_agent=to,
                payload=b"p",
                message_type=zmesh.MessageType.HEARTBEAT,
                timestamp=123,
                ttl=9999,
                priority=zmesh.MessagePriority.LOW,
                message_id="order-17",
            )
            receipt = await a.send_message(made)
            (message,) = await read(receiver, 1)
            assert receipt.message_id == message.message_id == "order-17"
            assert (message.from_agent, message.to_agent, message.payload, message.timestamp) == (7, to, b"p", 123)
            assert (message.message_type, message.ttl, message.priority) == (made.message_type, 9999, made.priority)
            await receipt.delivered(PATIENCE_S)


@in_loop
async def test_a_large_message_made_by_the_user_keeps_its_id_and_time(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        _, nine = await agents(a, b)
        ten = await a.register_agent(10)
        for to, receiver in ((9, nine), (10, ten)):
            made = zmesh.AgentMessage(7, to, pattern(3 * MIB), timestamp=123, message_id="big-1")
            receipt = await a.send_message(made)
            (message,) = await read(receiver, 1)
            assert (receipt.message_id, message.message_id, message.timestamp) == ("big-1", "big-1", 123)
            assert message.payload == made.payload


@pytest.mark.parametrize("is_local", [False, True], ids=["remote", "local"])
@in_loop
async def test_what_a_receiver_would_refuse_is_refused_before_it_is_sent(home: Path, is_local: bool) -> None:
    """One such record would have its frame refused and its connection cut, again and again."""
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b)
        receiver = await a.register_agent(8) if is_local else nine
        to = receiver.agent_id
        made = zmesh.AgentMessage(from_agent=7, to_agent=to)
        wrong_sends: list[dict[str, Any]] = [
            {"ttl_ms": -1},
            {"ttl_ms": 1 << 32},
            {"ttl_ms": 1.5},
            {"priority": 4},
            {"priority": -1},
            {"message_type": 6},
            {"message_type": "Command"},
        ]
        wrong_fields: list[dict[str, Any]] = [
            {"from_agent": -1},
            {"from_agent": 1 << 64},
            {"from_agent": None},
            {"message_type": 6},
            {"priority": None},
            {"ttl": -5},
            {"timestamp": 1 << 63},
            {"timestamp": 0.5},
            {"message_id": ""},
            {"message_id": "x" * 201},
            {"message_id": "\ud800"},
            {"message_id": 17},
        ]
        for wrong in wrong_sends:
            with pytest.raises(zmesh.UsageError):
                await seven.send(to, b"", **wrong)
        for payload in (b"", bytes(100_000)):
            for wrong in wrong_fields:
                with pytest.raises(zmesh.UsageError):
                    await a.send_message(msgspec.structs.replace(made, payload=payload, **wrong))
        for unsuitable in (float(to), -1, 1 << 64, True, "9", None):
            with pytest.raises(zmesh.UnknownAgent):
                await seven.send(unsuitable, b"")  # type: ignore[arg-type]
            with pytest.raises(zmesh.UnknownAgent):
                await seven.request(unsuitable, b"")  # type: ignore[arg-type]
        await seven.send(to, b"good")
        assert [message.payload for message in await read(receiver, 1)] == [b"good"]
        assert b.statistics().dropped_malformed == 0


# -- whom nobody knows -----------------------------------------------------------------------------------------------


@in_loop
async def test_an_agent_that_nobody_knows_is_refused_at_once(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, _ = await agents(a, b)
        nobody = (
            seven.send(404, b""),
            seven.request(404, b""),
            seven.send(zmesh.Capability("fly"), b""),
            seven.request(zmesh.Capability("fly"), b""),
            a.send_message(zmesh.AgentMessage(from_agent=7, to_agent=404)),
        )
        for call in nobody:
            with pytest.raises(zmesh.UnknownAgent, match=r"404|'fly'"):
                call.send(None)  # one step: whatever waits for anything would yield here, and this would not raise
            call.close()


@in_loop
async def test_an_agent_that_has_just_gone_is_told_by_its_node(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b)
        await nine.close()
        # Nothing was awaited that could have let node a hear of it: it still believes in agent 9.
        question = seven.request(9, b"are you there?")
        with pytest.raises(zmesh.UnknownAgent, match="agent 9 is not on node b"):
            await question
        assert b.statistics().lost_unknown_agent == 1
        await until(lambda: a.registry.agent(9) is None, "node a has heard of it")
        with pytest.raises(zmesh.UnknownAgent):
            await seven.send(9, b"x")


@in_loop
async def test_a_plain_message_for_an_agent_that_has_just_gone_is_counted(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b)
        await nine.close()
        await (await seven.send(9, b"x")).delivered(PATIENCE_S)  # the node has it; the agent is a matter of its own
        assert b.statistics().lost_unknown_agent == 1


# -- agents of one node ----------------------------------------------------------------------------------------------


@in_loop
async def test_messages_within_a_node_never_touch_a_socket(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")  # alone: what nodes have to tell each other is no part of this
        seven = await a.register_agent(7)
        eight = await a.register_agent(8)
        upper = await a.register_agent(10, ["upper"], handler=lambda message: message.payload.upper())
        payload = pattern(3 * MIB)
        receipts = [await seven.send(8, b"%d" % number) for number in range(1000)]
        receipts.append(await seven.send(8, payload))
        got = await read(eight, 1001)
        assert [message.payload for message in got] == [b"%d" % number for number in range(1000)] + [payload]
        assert got[0].message_id == receipts[0].message_id
        assert got[0].sender_node == "a"
        await asyncio.gather(*(receipt.delivered(PATIENCE_S) for receipt in receipts))
        assert (await seven.request(10, b"abc")).payload == b"ABC"
        assert (await upper.request(10, b"self")).payload == b"SELF"
        assert (await seven.request(zmesh.Capability("upper"), payload)).payload == payload.upper()
        counted = statistics(a)
        for counter in ("frames_sent", "frames_received", "bytes_sent", "bytes_received"):
            assert counted[counter] == 0, counter
        assert counted["messages_sent"] == 1001 + 2 * 3


@in_loop
async def test_a_handler_may_send_to_its_own_agent_without_end(home: Path) -> None:
    """The queue is emptied once a loop turn: a handler that answers itself recurses into nothing and starves nobody."""
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        counted = 0

        async def again(message: zmesh.AgentMessage) -> None:
            nonlocal counted
            counted += 1
            if counted < 5000:
                await one.send(1, b"again")

        one = await a.register_agent(1, handler=again)
        await one.send(1, b"start")
        await until(lambda: counted == 5000, "5,000 turns are done")


# -- senders wait for credit, and for nothing else -------------------------------------------------------------------


@pytest.mark.parametrize("is_local", [False, True], ids=["remote", "local"])
@in_loop
async def test_a_sender_waits_for_a_receiver_that_does_not_read(home: Path, is_local: bool) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair(window_bytes=256 * KIB)
        seven, nine = await agents(a, b)
        receiver = await a.register_agent(8) if is_local else nine
        sent = 0

        async def push() -> None:
            nonlocal sent
            for number in range(3000):
                await seven.send(receiver.agent_id, number.to_bytes(4, "big") + bytes(2000))
                sent += 1

        task = asyncio.create_task(push())
        window = (MIB if is_local else MIB + 256 * KIB) // 2020
        await until(lambda: sent > window // 2, "the window fills")
        stalled = await _stable(lambda: sent)
        assert stalled <= window + 2 * 64, "more was sent than there was credit for"
        got = await read(receiver, 3000)
        assert [int.from_bytes(message.payload[:4], "big") for message in got] == list(range(3000))
        await task


async def _stable(value: object) -> int:
    """A counter's value once it has not changed for 200 turns and a probe's wait."""
    assert callable(value)
    last, since = value(), time.monotonic()
    while time.monotonic() - since < 0.3:
        await asyncio.sleep(0.005)
        if value() != last:
            last, since = value(), time.monotonic()
    return int(last)


@in_loop
async def test_one_slow_agent_holds_up_senders_and_not_requests_to_them(home: Path) -> None:
    """Node a cannot send to b for want of credit; b asks a all the same, and a's answers overdraw."""
    async with Mesh(home) as mesh:
        a, b = await mesh.pair(window_bytes=64 * KIB)
        seven, nine = await agents(a, b, handler=lambda message: message.payload * 2)

        async def push() -> None:
            while True:
                await seven.send(9, bytes(10_000))

        task = asyncio.create_task(push())
        await until(lambda: b.statistics().bytes_received > MIB, "credit runs out")
        ten = await b.register_agent(10)
        answers = await asyncio.gather(*(ten.request(7, b"%d" % number) for number in range(200)))
        assert [answer.payload for answer in answers] == [b"%d" % number * 2 for number in range(200)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await nine.close()


@in_loop
async def test_what_waits_too_long_for_its_handler_is_dropped_and_counted(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b)
        await seven.send(9, b"stale", ttl_ms=1)
        await (await seven.send(9, b"fresh", ttl_ms=60_000)).delivered(PATIENCE_S)
        arrived = time.monotonic()
        await until(lambda: time.monotonic() > arrived + 0.01, "the ttl of the first has run out")
        assert [message.payload for message in await read(nine, 1)] == [b"fresh"]
        assert b.statistics().lost_expired == 1


@in_loop
async def test_statistics_are_of_one_moment_and_nobody_can_change_them(home: Path) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        seven = await a.register_agent(7, handler=lambda message: None)
        before = a.statistics()
        await (await seven.send(7, b"one")).delivered(PATIENCE_S)
        assert (before.messages_sent, a.statistics().messages_sent) == (0, 1)
        for name in before.__struct_fields__:
            with pytest.raises(AttributeError):
                setattr(before, name, 9)
        assert before == zmesh.Statistics(), "none of them was changed"

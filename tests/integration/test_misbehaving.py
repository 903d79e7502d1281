"""Handlers, limits and silences that once cost a node its hearing, its credit or its end."""

from __future__ import annotations

import asyncio
import contextvars
import os
import resource
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, agents, in_loop, statistics, until
from zmesh.runtime.link import Link

MIB = 1024 * 1024


class Odd(BaseException):
    """What no ``except Exception`` catches."""


def released(message: zmesh.AgentMessage) -> memoryview:
    with memoryview(message.payload) as view:
        return view


def odd(message: zmesh.AgentMessage) -> bytes:
    raise Odd("odd")


async def late_odd(message: zmesh.AgentMessage) -> bytes:
    await asyncio.sleep(0)
    raise Odd("late")


async def late_released(message: zmesh.AgentMessage) -> memoryview:
    await asyncio.sleep(0)
    return released(message)


def link_of(node: zmesh.AgentNetwork, peer: str) -> Link:
    assert node._node is not None
    return node._node.plane.links.by_node[peer]


@pytest.mark.parametrize("bad", [released, odd, late_odd, late_released])
@in_loop
async def test_whatever_a_handler_does_its_requester_is_told_and_the_node_goes_on(home: Path, bad: Any) -> None:
    def handler(message: zmesh.AgentMessage) -> Any:
        return bad(message) if message.payload == b"bad" else message.payload

    async with Mesh(home) as mesh:
        a, b = await mesh.pair(handler_concurrency=4)
        _, nine = await agents(a, b, handler)
        own = await a.register_agent(8)
        for asker in (nine, own):
            for _ in range(3):  # more often than handlers may wait at once
                asked = [b"bad" if number % 4 == 0 else b"%d" % number for number in range(12)]
                answers = await asyncio.gather(
                    *(asker.request(7, payload, timeout_s=PATIENCE_S) for payload in asked), return_exceptions=True
                )
                for payload, answer in zip(asked, answers, strict=True):
                    if payload == b"bad":
                        assert isinstance(answer, zmesh.HandlerFailed)
                    else:
                        assert isinstance(answer, zmesh.AgentMessage)
                        assert answer.payload == payload
        assert a.statistics().handlers_failed == 2 * 3 * 3
        state = link_of(a, "b").half.state
        assert state.consumed_bytes == state.received_bytes, "credit was kept"


@in_loop
async def test_credit_comes_back_from_handlers_that_outlive_a_link(home: Path) -> None:
    """a is given up and comes back in the session it had; what b's handlers held all the while is let go of then."""
    async with Mesh(home) as mesh:
        a, b = await mesh.pair(window_bytes=256 * 1024)
        may_end = asyncio.Event()

        async def handler(message: zmesh.AgentMessage) -> None:
            await may_end.wait()

        seven, _ = await agents(a, b, b_handler=handler)
        sending = link_of(a, "b").sending
        for _ in range(3):
            may_end.clear()
            receipts = [await seven.send(9, bytes(15_000)) for _ in range(10)]
            await asyncio.gather(*(receipt.delivered(PATIENCE_S) for receipt in receipts))
            assert b._node is not None
            b._node.plane.links.close("a", "as after the resume window")
            may_end.set()
        half = b._node.plane.links.link_for("a").half
        assert half.session == link_of(a, "b").session, "a has not gone on in the session it had"
        await until(lambda: half.state.consumed_bytes == half.state.received_bytes, "all credit is back")
        assert link_of(a, "b").sending is sending


@contextmanager
def no_descriptors() -> Iterator[None]:
    """As in a process that has used up its limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 2, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@in_loop
async def test_what_is_sent_while_no_socket_is_to_be_had_arrives_later(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        got: list[bytes] = []
        seven, _ = await agents(a, b, b_handler=lambda message: got.append(message.payload))
        await (await seven.send(9, b"first")).delivered(PATIENCE_S)
        link_of(a, "b")._transport.close()  # as after a while without traffic
        with no_descriptors():
            receipts = [await seven.send(9, b"second"), await seven.send(9, b"third")]
            await until(lambda: [i for i in a._past_incidents if i.kind == "cannot_connect"], "it is told")
        await asyncio.gather(*(receipt.delivered(PATIENCE_S) for receipt in receipts))
        assert got == [b"first", b"second", b"third"]


@in_loop
async def test_what_is_larger_than_its_receiver_takes_is_reported_and_nothing_hangs(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.node("a"), await mesh.node("b", max_message_bytes=2 * MIB)
        got: list[int] = []
        seven, _ = await agents(a, b, b_handler=lambda message: got.append(len(message.payload)))
        await (await seven.send(9, b"first")).delivered(PATIENCE_S)
        with pytest.raises(zmesh.PeerLost, match="more than it takes"):
            await (await seven.send(9, bytes(10 * MIB))).delivered(PATIENCE_S)
        await seven.request(9, b"second", timeout_s=PATIENCE_S)
        await (await seven.send(9, bytes(2 * MIB))).delivered(PATIENCE_S)
        assert got == [5, 6, 2 * MIB]
        assert [i.kind for i in b._past_incidents if i.source == "a"] == ["oversize_message"]


@in_loop
async def test_a_handler_may_end_its_own_node(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        has_left = asyncio.Event()

        async def quits(message: zmesh.AgentMessage) -> None:
            await b.leave_network()
            has_left.set()

        async def never(message: zmesh.AgentMessage) -> None:
            await asyncio.Event().wait()

        seven, nine = await agents(a, b, b_handler=never)
        await b.register_agent(10, handler=quits)
        await a.registry.wait_for_agent(10, PATIENCE_S)
        await seven.send(9, b"wait for ever")
        await seven.send(10, b"quit")
        async with asyncio.timeout(PATIENCE_S):
            await has_left.wait()
        assert not b.is_joined
        with pytest.raises(zmesh.NotJoined):
            await nine.send(7, b"")


@pytest.mark.parametrize("concurrency", [1, 100])
@in_loop
async def test_an_agent_closed_by_its_own_handler_answers_for_all_that_waited(home: Path, concurrency: int) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.node("a", handler_concurrency=concurrency), await mesh.node("b")
        seven: zmesh.Agent

        async def handler(message: zmesh.AgentMessage) -> bytes:
            await seven.close()
            await asyncio.sleep(0)
            return b"the first, and the last"

        seven, nine = await agents(a, b, handler)
        answers = await asyncio.gather(
            *(nine.request(7, b"", timeout_s=PATIENCE_S) for _ in range(20)), return_exceptions=True
        )
        kinds = sorted(type(answer).__name__ for answer in answers)
        assert kinds == ["ReceivedMessage"] + ["UnknownAgent"] * 19
        counted = statistics(a)
        assert counted["lost_agent_closed"] + counted["lost_unknown_agent"] == 19
        state = link_of(a, "b").half.state
        await until(lambda: state.consumed_bytes == state.received_bytes, "credit is back")


TENANT: contextvars.ContextVar[bytes] = contextvars.ContextVar("TENANT", default=b"nobody's")


@in_loop
async def test_what_a_handler_puts_into_its_context_is_not_found_by_the_next_senders(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seen: list[bytes] = []

        async def handler(message: zmesh.AgentMessage) -> bytes:
            seen.append(TENANT.get())
            TENANT.set(message.payload)
            return b""

        _, nine = await agents(a, b, handler)
        await nine.request(7, b"nine's", timeout_s=PATIENCE_S)
        await (await b.register_agent(10)).request(7, b"ten's", timeout_s=PATIENCE_S)
        await nine.request(7, b"nine's", timeout_s=PATIENCE_S)
        assert seen == [b"nobody's"] * 3


@in_loop
async def test_every_report_of_a_lost_peer_is_an_exception_of_its_own(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, _ = await agents(a, b)
        receipt = await seven.send(9, b"")
        link_of(a, "b").close(zmesh.PeerLost("as if it were gone"))
        lengths = []
        for _ in range(3):
            with pytest.raises(zmesh.PeerLost) as told:
                await receipt.delivered()
            lengths.append(len(traceback.extract_tb(told.value.__traceback__)))
        assert len(set(lengths)) == 1

"""Nodes that fall silent: whoever waits for their answer is told at once; what was sent to them is held for a while."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, agents, in_loop, until
from tests.integration.processes import Child, child, number_payload, numbers
from zmesh.config import Timings
from zmesh.core.membership.member import NodeRecord
from zmesh.zeromq import OpenZmqPlanes

FOR_EVER_S = 3600.0
REQUESTS = 600  # of 10,000 bytes: more than there is credit for


@asynccontextmanager
async def stopped_node(home: Path, file: Path) -> AsyncIterator[tuple[zmesh.AgentNetwork, zmesh.Agent, Child]]:
    """Node ``a``, its agent 7, and node ``b`` with agent 9, whose process has just been stopped."""
    async with Mesh(home) as mesh:
        a = await mesh.node("a", preset="local")
        seven = await a.register_agent(7)
        async with child(home, "b", a, file) as stopped:
            await seven.request(9, number_payload(0), timeout_s=PATIENCE_S)
            stopped.signal(signal.SIGSTOP)
            try:
                yield a, seven, stopped
            finally:
                stopped.signal(signal.SIGCONT)


@in_loop
async def test_requests_to_a_node_that_is_taken_for_dead_end_at_once(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    async with stopped_node(home, file) as (a, seven, stopped):
        payloads = [number_payload(number, 10_000) for number in range(REQUESTS)]
        # Those under way, and those that still wait for credit.
        asked = [asyncio.create_task(seven.request(9, each, timeout_s=FOR_EVER_S)) for each in payloads]
        results = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), PATIENCE_S)
        assert {type(result) for result in results} == {zmesh.PeerLost}
        assert "taken for dead" in str(results[0])
        assert [info.node_id for info in a.registry.nodes(zmesh.NodeStatus.DISCONNECTED)] == ["b"]
        sent = a.statistics().messages_sent
        for timeout_s in (None, FOR_EVER_S, FOR_EVER_S):
            with pytest.raises(zmesh.PeerLost, match="ask again when it is back"):
                await seven.request(9, number_payload(99), timeout_s=timeout_s)
        assert a.statistics().messages_sent == sent, "a request that was refused is not sent"

        stopped.signal(signal.SIGCONT)
        await until(lambda: len(a.registry.nodes(zmesh.NodeStatus.ACTIVE)) == 2, "b is alive again")
        await seven.request(9, number_payload(100), timeout_s=PATIENCE_S)
        under_way = numbers(file)[1:-1]
        assert under_way == list(range(len(under_way))), "what was under way arrives once, in order"
        assert 0 < len(under_way) < REQUESTS
        assert a.statistics().late_replies == len(under_way)
        assert a.statistics().lost_peer_lost == a.statistics().requests_timed_out == 0


@in_loop
async def test_what_was_sent_to_a_node_that_is_taken_for_dead_is_held_and_arrives(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    async with stopped_node(home, file) as (a, seven, stopped):
        before = await seven.send(9, number_payload(1))
        await until(lambda: a.registry.nodes(zmesh.NodeStatus.DISCONNECTED), "b is taken for dead")
        after = await seven.send(9, number_payload(2))
        waits = asyncio.create_task(after.delivered(PATIENCE_S))
        await asyncio.wait((waits,), timeout=0.1)
        assert not waits.done(), "nothing is reported while it may come back"
        stopped.signal(signal.SIGCONT)
        await waits
        await before.delivered(PATIENCE_S)
        await until(lambda: numbers(file) == [0, 1, 2], "both are written down")


@in_loop
async def test_what_is_sent_to_a_node_whose_data_port_nobody_reaches_is_reported(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_record = OpenZmqPlanes.make_record
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))  # and nobody listens

        def elsewhere(planes: OpenZmqPlanes) -> NodeRecord:
            record = make_record(planes)
            return replace(record, data_port=deaf.getsockname()[1]) if record.node_id == "b" else record

        monkeypatch.setattr(OpenZmqPlanes, "make_record", elsewhere)
        async with Mesh(home) as mesh:
            a, b = await mesh.pair(timings=Timings(resume_window_s=1.0))
            seven, _ = await agents(a, b)
            sending = (seven.send(9, bytes(60_000)) for _ in range(40))  # more than there is credit for
            receipts = await asyncio.wait_for(asyncio.gather(*sending), PATIENCE_S)
            for receipt in receipts:
                with pytest.raises(zmesh.PeerLost, match="node b lives, but no connection to it could be made for 1 s"):
                    await receipt.delivered(PATIENCE_S)
            assert a.statistics().lost_peer_lost == 40
            assert [info.node_id for info in a.registry.nodes(zmesh.NodeStatus.ACTIVE)] == ["a", "b"], "it lives"

"""Processes that are killed and stopped, connections that are reset: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path

import pytest

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, agents, in_loop, read, statistics, until
from tests.integration.processes import child, number_payload, numbers
from tests.integration.proxy import CONTROL, DATA, INTRODUCTION, PUBLISH, Proxy

KIB, MIB = 1024, 1024 * 1024


class Sender:
    """Sends numbers as fast as credit allows, and keeps every receipt."""

    def __init__(self, network: zmesh.AgentNetwork, agent: zmesh.Agent, size: int) -> None:
        self._network = network
        self._agent = agent
        self._size = size
        self.receipts: dict[int, zmesh.Receipt] = {}
        self.refused: list[int] = []
        self._task = asyncio.create_task(self._send())

    async def _send(self) -> None:
        for number in count():
            try:
                self.receipts[number] = await self._agent.send(9, number_payload(number, self._size))
            except (zmesh.PeerLost, zmesh.UnknownAgent):
                self.refused.append(number)
                await self._agent_is_back()
            if number % 50 == 0:
                await asyncio.sleep(0)

    async def _agent_is_back(self) -> None:
        await self._network.registry.wait_for_agent(9, PATIENCE_S)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def sort(self) -> tuple[set[int], set[int]]:
        """The numbers acknowledged, and those reported lost; nothing else may happen to a number."""
        waits = (receipt.delivered(PATIENCE_S) for receipt in self.receipts.values())
        results = dict(zip(self.receipts, await asyncio.gather(*waits, return_exceptions=True), strict=True))
        acknowledged = {number for number, result in results.items() if result is None}
        lost = {number for number, result in results.items() if isinstance(result, zmesh.PeerLost)}
        assert acknowledged | lost == set(results), "a receipt ended in another way"
        return acknowledged, lost


def has_more_than(file: Path, count: int) -> bool:
    return len(numbers(file)) > count


@pytest.mark.parametrize("size", [500, 100 * KIB], ids=["small", "attached"])
@in_loop
async def test_a_receiver_killed_in_mid_transfer_and_restarted(home: Path, tmp_path: Path, size: int) -> None:
    """What was acknowledged was received exactly once; what was not is reported; the link resumes with the next one."""
    files = [tmp_path / f"numbers-{life}" for life in range(3)]
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        sender = None
        for life, file in enumerate(files):
            async with child(home, "b", a, file) as receiver:
                sender = sender or Sender(a, await a.register_agent(7), size)
                await until(partial(has_more_than, file, 300), f"life {life} has received some")
                if life < 2:
                    receiver.signal(signal.SIGKILL)
                    await receiver.ended()
                else:
                    await sender.stop()
                    acknowledged, lost = await sender.sort()
                    assert acknowledged <= received(files), "acknowledged, and not received"
        assert sender is not None
        counts = Counter(number for file in files for number in numbers(file))
        assert [number for number, times in counts.items() if times > 1] == [], "received twice"
        assert lost, "nothing was under way when the receiver was killed: the test has tested nothing"
        assert a.statistics().lost_peer_lost >= len(lost)
        for file in files:
            assert numbers(file) == sorted(numbers(file)), "out of order"


def received(files: list[Path]) -> set[int]:
    return {number for file in files for number in numbers(file)}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


@in_loop
async def test_a_receiver_that_is_stopped_for_ten_seconds(home: Path, tmp_path: Path) -> None:
    """It is taken for dead after 3 s, and is not: its session is kept, bounded by its credit, and goes on."""
    file, size, total = tmp_path / "numbers", 10_000, 2500
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        seven = await a.register_agent(7)
        receipts: list[zmesh.Receipt] = []

        async def push() -> None:
            for number in range(total):
                receipts.append(await seven.send(9, number_payload(number, size)))

        async with child(home, "b", a, file) as receiver:
            await (await seven.send(9, number_payload(1 << 32))).delivered(PATIENCE_S)
            receiver.signal(signal.SIGSTOP)
            try:
                before_bytes = resident_bytes()
                stopped = asyncio.get_running_loop().time()
                task = asyncio.create_task(push())
                await until(lambda: a.registry.nodes(zmesh.NodeStatus.DISCONNECTED), "b is taken for dead")
                await until(lambda: asyncio.get_running_loop().time() - stopped >= 10, "ten seconds have passed")
                window = a.config.window_bytes
                assert len(receipts) * size < window + 4 * 64 * KIB, "more was sent than there was credit for"
                assert resident_bytes() - before_bytes < 4 * window, "memory is not bounded by credit"
                assert a.statistics().frames_resent == 0, "a stopped peer is asked, not flooded"
                assert not task.done()
            finally:
                receiver.signal(signal.SIGCONT)
            await task
            await receipts[-1].delivered(PATIENCE_S)
            await until(lambda: len(numbers(file)) == total + 1, "all is written down")
            assert numbers(file)[1:] == list(range(total))
            await until(lambda: len(a.registry.nodes(zmesh.NodeStatus.ACTIVE)) == 2, "b is alive again")
        assert a.statistics().lost_peer_lost == 0


# -- connections that break ------------------------------------------------------------------------------------------


@in_loop
async def test_connections_reset_in_mid_stream_lose_and_double_nothing(home: Path) -> None:
    """Acknowledgements are held up while the data's connection breaks, so that what has arrived is sent again, too."""
    sizes = (8, 30_000, 8, 70_000, 8, 2_500_000)
    async with Mesh(home) as mesh, Proxy(1) as to_a, Proxy(2) as to_b:
        a, b = await mesh.node("a", **to_a.settings), await mesh.node("b", **to_b.settings)
        seven, nine = await agents(a, b)
        sent, done = 0, False

        async def push() -> None:
            nonlocal sent
            while not done:
                last = await nine.send(7, number_payload(sent, sizes[sent % len(sizes)]))
                sent += 1
            await last.delivered(PATIENCE_S)

        got: list[tuple[int, int]] = []
        await seven.close()
        await a.register_agent(7, handler=lambda message: got.append(taken(message)))
        pushing = asyncio.create_task(push())
        receiving, sending = (node._joined.plane.links.by_node[peer] for node, peer in ((a, "b"), (b, "a")))
        for _ in range(10):
            acked, doubled = sending.sending.acked, a.statistics().dropped_duplicate
            await until(lambda: sending.sending.acked > acked, "acknowledgements pass")  # noqa: B023
            to_b.hold(DATA)
            while a.statistics().dropped_duplicate == doubled:  # an ack may have been past the proxy already
                await until(lambda: receiving.half.state.expected > sending.sending.acked, "something more has come")
                expected = receiving.half.state.expected
                await until(lambda: to_a.reset(DATA), "there is a connection to break")
                await until(
                    lambda: a.statistics().dropped_duplicate > doubled or receiving.half.state.expected > expected,  # noqa: B023
                    "something comes on the next connection",
                )
            to_b.release(DATA)
        done = True
        await pushing
        assert got == [(number, sizes[number % len(sizes)]) for number in range(sent)]
        counted = statistics(a, b)
        assert counted["dropped_duplicate"] >= 10
        assert counted["lost_peer_lost"] == counted["dropped_malformed"] == counted["connections_cut"] == 0


def taken(message: zmesh.AgentMessage) -> tuple[int, int]:
    return int.from_bytes(message.payload[:8], "big"), len(message.payload)


@in_loop
async def test_requests_survive_resets_on_every_plane(home: Path) -> None:
    async with Mesh(home) as mesh, Proxy(1) as proxy:
        a, b = await mesh.node("a", **proxy.settings), await mesh.node("b")
        _, nine = await agents(a, b, handler=lambda message: message.payload[::-1])
        for plane in (DATA, CONTROL, PUBLISH, INTRODUCTION, DATA):
            for number in range(20):
                answers = asyncio.gather(
                    *(nine.request(7, b"%d-%d" % (number, each), timeout_s=PATIENCE_S) for each in range(20))
                )
                await asyncio.sleep(0)
                proxy.reset(plane)
                expected = [(b"%d-%d" % (number, each))[::-1] for each in range(20)]
                assert [answer.payload for answer in await answers] == expected
        await b.registry.wait_for_nodes(2, PATIENCE_S)


@in_loop
async def test_what_is_published_while_connections_break_is_repaired(home: Path) -> None:
    async with Mesh(home) as mesh, Proxy(1) as proxy:
        a, b = await mesh.node("a", **proxy.settings), await mesh.node("b")
        publisher, listener = await agents(a, b)
        await listener.join_group("lab")
        total = 3000

        async def publish() -> None:
            for number in range(total):
                await publisher.publish("lab", number_payload(number, 3000))
                if number % 300 == 299:
                    await until(lambda: proxy.reset(PUBLISH), "there is a connection to reset")

        got, _ = await asyncio.gather(read(listener, total), publish())
        assert [int.from_bytes(message.payload[:8], "big") for message in got] == list(range(total))
        assert b.statistics().lost_topic_gap == 0

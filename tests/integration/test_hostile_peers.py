"""A member that breaks the protocol, and strangers: refused, counted, told of once, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, agents, in_loop, until
from tests.runtime import control_mesh
from zmesh.model import now_ms
from zmesh.runtime.sockets import client_socket
from zmesh.security import Keystore
from zmesh.wire.data import FLAG_PROBE as PROBE
from zmesh.wire.data import FLAG_RESET as RESET
from zmesh.wire.data import Kind
from zmesh.wire.limits import MAX_PART_BYTES

MAX_U64 = (1 << 64) - 1
RUN: list[Any] = [0, 7, 66, 1, 1, 0, [b"from the hostile member"], None, None, None, None]
SENDER, RECEIVER, FIRST, RUNS = 1, 2, 3, 8  # fields of a frame
WRONG_VALUES: list[Any] = [None, -(1 << 63), MAX_U64, 1.5, True, "text", b"bytes", {}, [[]]]
# Those of them that do belong into a field, by its index.
RIGHT_IN_HEADER: list[tuple[int, Any]] = [(6, -(1 << 63)), (9, None), (10, None)]
RIGHT_IN_RUN: list[tuple[int, Any]] = [(1, MAX_U64), (2, MAX_U64), (7, None), (8, None), (9, None), (10, None)]


def frame(*, first: int = 1, ack: int = 1, flags: int = 0, session: int = 1, runs: Any = (RUN,)) -> list[Any]:
    """A frame as docs/spec/03-data-plane.md has it, before it is encoded."""
    return [1, session, 0, first, ack, 1 << 22, now_ms(), flags, list(runs), None, None]


def changed(what: list[Any], index: int, value: Any) -> list[Any]:
    return [*what[:index], value, *what[index + 1 :]]


def malformed_frames() -> Iterator[tuple[bytes, ...]]:
    """Every field of the header and of a run replaced by what does not belong there; cut, prolonged, garbage."""
    whole = msgpack.packb(frame())
    for length in range(len(whole)):
        yield (whole[:length],)
    yield (whole + b"\0",)
    for number in range(20):
        yield (os.urandom(1 + number * 50),)
    for index in range(1, len(frame())):
        for value in WRONG_VALUES:
            if (index, value) not in RIGHT_IN_HEADER:
                yield (msgpack.packb(changed(frame(), index, value)),)
    for index in range(len(RUN)):
        for value in WRONG_VALUES:
            if (index, value) not in RIGHT_IN_RUN:
                yield (msgpack.packb(frame(runs=[changed(RUN, index, value)])),)
    yield (whole, b"attachment", b"a third part")


def frames_of_other_versions() -> Iterator[tuple[bytes, ...]]:
    for version in (0, 2, 99, -1, MAX_U64):
        yield (msgpack.packb(changed(frame(), 0, version)),)
        yield (msgpack.packb([version, "of", {"another": "shape"}]),)


class Hostile:
    """A member of the mesh, with a certificate and a control plane as all have, that sends what it likes."""

    def __init__(self, node: control_mesh.Node, victim: zmesh.AgentNetwork) -> None:
        self._node = node
        self._port = int(victim.info().addresses[0].rpartition(":")[2]) + 2
        self._server_key = victim._joined.standing.identity.curve_public

    async def next_frame(self) -> list[Any]:
        """What the victim has sent next."""
        router = self._node.sockets.data
        await until(lambda: router.poll(0), "the victim has sent something")
        return list(msgpack.unpackb(router.recv_multipart()[1]))

    async def next_answer(self) -> list[Any]:
        """The victim's next frame with records."""
        while not (frame := await self.next_frame())[RUNS]:
            pass
        return frame

    async def session_of_victim(self) -> int:
        """The number of the session in which the victim sends, as its frames have it."""
        return int((await self.next_frame())[SENDER])

    @contextmanager
    def connection(self) -> Iterator[zmq.Socket[bytes]]:
        identity = self._node.identity
        keys = (identity.curve_public, identity.curve_secret)
        dealer = client_socket(self._node.context, zmq.DEALER, keys, self._server_key, -1)
        dealer.connect(f"tcp://127.0.0.1:{self._port}")
        try:
            yield dealer
        finally:
            dealer.close(0)


@asynccontextmanager
async def hostile(victim: zmesh.AgentNetwork, home: Path) -> AsyncIterator[Hostile]:
    claim = Keystore(home, "default").claim("evil", client=False, now_ms=now_ms())
    node = await asyncio.to_thread(control_mesh.Node, claim.identity)
    try:
        node.plane.dial([("127.0.0.1", int(victim.info().addresses[0].rpartition(":")[2]))], True)
        await until(lambda: "evil" in {info.node_id for info in victim.registry.nodes()}, "the hostile member is in")
        yield Hostile(node, victim)
    finally:
        await asyncio.to_thread(node.stop, goodbye=True)
        claim.release()


class Traffic:
    """What two honest nodes say to each other meanwhile; all of it must arrive at the first attempt."""

    def __init__(self, a: zmesh.AgentNetwork, b: zmesh.AgentNetwork) -> None:
        self._nodes = (a, b)
        self._stop = False

    async def __aenter__(self) -> None:
        a, b = self._nodes
        _, nine = await agents(a, b, handler=lambda message: message.payload[::-1])
        self._task = asyncio.create_task(self._talk(nine))

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        assert await self._task > 10
        for node in self._nodes:
            assert node.statistics().frames_resent == 0, "an honest node's connection was cut"

    async def _talk(self, nine: zmesh.Agent) -> int:
        count = 0
        while not self._stop:
            count += 1
            answer = await nine.request(7, b"honest %d" % count, timeout_s=PATIENCE_S)
            assert answer.payload == (b"honest %d" % count)[::-1]
        return count


def told(network: zmesh.AgentNetwork, source: str) -> list[str]:
    """The kinds of the incidents with this source, one for each time it was told."""
    return sorted(incident.kind for incident in network._past_incidents if incident.source == source)


async def send_all(enemy: Hostile, messages: list[tuple[bytes, ...]], done: Any) -> None:
    """Each over a connection of its own, many at a time, since each is to be cut."""
    for start in range(0, len(messages), 50):
        with ExitStack() as stack:
            part = messages[start : start + 50]
            for parts in part:
                stack.enter_context(enemy.connection()).send_multipart(parts)
            await until(lambda: done() >= start + len(part), f"{start + len(part)} are refused, not {done()}")  # noqa: B023


@in_loop
async def test_malformed_frames_are_counted_and_cut_and_nobody_else_notices(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        async with Traffic(a, b), hostile(a, home) as enemy:
            messages = list(malformed_frames())
            await send_all(enemy, messages, lambda: a.statistics().dropped_malformed)
            assert a.statistics().dropped_malformed == a.statistics().connections_cut == len(messages)
            versions = list(frames_of_other_versions())
            await send_all(enemy, versions, lambda: a.statistics().dropped_wrong_version)
            assert a.statistics().dropped_wrong_version == len(versions)
            assert a.statistics().connections_cut == len(messages) + len(versions)
            assert told(a, "evil") == ["malformed_frame", "wrong_version"]


def part_run(total: int, offset: int) -> list[Any]:
    """A run whose payload is the frame's attachment."""
    return changed(changed(RUN, 6, []), 10, [total, offset])


BROKEN_SESSIONS: dict[str, tuple[str, Callable[[int], tuple[bytes, ...]]]] = {
    "overlap": ("overlapping_frame", lambda number: (msgpack.packb(frame(first=number - 1, runs=[RUN, RUN])),)),
    "oversize": (
        "oversize_message",
        lambda number: (msgpack.packb(frame(first=number, runs=[part_run(1 << 40, 0)])), b"x"),
    ),
    "offset": (
        "chunk_out_of_order",
        lambda number: (msgpack.packb(frame(first=number, runs=[part_run(100, 50)])), b"x"),
    ),
    "beyond": (
        "chunk_out_of_order",
        lambda number: (msgpack.packb(frame(first=number, runs=[part_run(100, 0)])), bytes(101)),
    ),
    "without": ("chunk_out_of_order", lambda number: (msgpack.packb(frame(first=number, runs=[part_run(100, 0)])),)),
}


@pytest.mark.parametrize("case", BROKEN_SESSIONS)
@in_loop
async def test_frames_that_break_a_session_are_counted_and_cut(home: Path, case: str) -> None:
    kind, broken = BROKEN_SESSIONS[case]
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        async with Traffic(a, b), hostile(a, home) as enemy:
            with enemy.connection() as dealer:
                dealer.send(msgpack.packb(frame(first=1)))
                dealer.send_multipart(broken(2))
                await until(lambda: a.statistics().connections_cut == 1, "it is cut")
            with enemy.connection() as dealer:
                dealer.send_multipart(broken(2 if case == "overlap" else 3))
                await until(lambda: a.statistics().connections_cut == 2, "the next one, too")
            assert a.statistics().dropped_malformed == 2
            assert told(a, "evil") == [kind]


@in_loop
async def test_an_acknowledgement_of_what_was_never_sent_is_counted_and_cut(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        async with Traffic(a, b), hostile(a, home) as enemy:
            with enemy.connection() as dealer:
                dealer.send(msgpack.packb(frame(flags=1, runs=[])))
                session = await enemy.session_of_victim()
                assert a.statistics().connections_cut == 0
                dealer.send(msgpack.packb(changed(frame(ack=999, first=0, runs=[]), 2, session)))
                await until(lambda: a.statistics().connections_cut == 1, "it is cut")
            assert told(a, "evil") == ["impossible_ack"]


@in_loop
async def test_a_member_that_restarts_gets_its_answer_in_a_session_of_its_own(home: Path) -> None:
    """Played by hand, since which of its frames and of its peers' comes first is a matter of chance otherwise."""
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        await a.register_agent(66, handler=lambda message: message.payload)
        request = changed(changed(RUN, 0, int(Kind.REQUEST)), 1, 66)
        async with hostile(a, home) as enemy:
            with enemy.connection() as dealer:
                dealer.send(msgpack.packb(frame(session=1, runs=[request])))
                before = await enemy.next_answer()
            with enemy.connection() as dealer:
                dealer.send(msgpack.packb(frame(session=2, runs=[request])))  # its new process knows of no session of a
                after = await enemy.next_answer()
                assert (before[RECEIVER], after[RECEIVER]) == (1, 2)
                assert after[SENDER] > before[SENDER], "the new process would refuse the old session, answer and all"
                assert after[FIRST] == 1
                # Refused by a still later process: the session of the one before is spoken of no more.
                dealer.send(
                    msgpack.packb(changed(frame(session=3, first=0, flags=RESET, runs=[]), RECEIVER, after[SENDER]))
                )
                await until(lambda: a.statistics().lost_peer_lost, "the answer is given up")
                dealer.send(msgpack.packb(frame(session=2, first=0, flags=PROBE, runs=[])))
                while (last := await enemy.next_frame())[SENDER] <= after[SENDER]:
                    pass
                assert last[RECEIVER] == 0


@in_loop
async def test_a_part_that_is_too_large_is_not_even_read(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        async with Traffic(a, b), hostile(a, home) as enemy:
            with enemy.connection() as dealer:
                monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
                received = a.statistics().bytes_received
                dealer.send(bytes(MAX_PART_BYTES + 1))
                await until(lambda: monitor.poll(0), "ZeroMQ cuts the connection")
                dealer.disable_monitor()
                monitor.close(0)
            assert a.statistics().bytes_received - received < MAX_PART_BYTES
            assert a.statistics().dropped_malformed == 0


@in_loop
async def test_a_member_cannot_speak_for_another(home: Path) -> None:
    """Whatever a frame says of itself, its sender is who the connection was authenticated for."""
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        heard: list[zmesh.AgentMessage] = []
        await a.register_agent(66, handler=heard.append)
        async with Traffic(a, b), hostile(a, home) as enemy:
            with enemy.connection() as dealer:
                dealer.send(msgpack.packb(frame(runs=[changed(changed(RUN, 1, 66), 2, 9)])))
                await until(lambda: heard, "the message has come")
            assert [(message.sender_node, message.from_agent) for message in heard] == [("evil", 9)]
            assert heard[0].message_id.startswith("evil:")


@in_loop
async def test_strangers_disturb_nobody(home: Path, tmp_path: Path) -> None:
    """Plain ZeroMQ clients and garbage on all four ports, and a node of another mesh."""
    async with Mesh(home) as mesh, Mesh(tmp_path / "other") as other_mesh:
        a, b = await mesh.pair()
        base = int(a.info().addresses[0].rpartition(":")[2])
        async with Traffic(a, b):
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            with ExitStack() as stack:
                stack.callback(context.term)
                for port, kind in zip(
                    range(base, base + 4), (zmq.DEALER, zmq.DEALER, zmq.DEALER, zmq.SUB), strict=True
                ):
                    plain = context.socket(kind)
                    stack.callback(plain.close, 0)
                    plain.connect(f"tcp://127.0.0.1:{port}")
                    for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(1000), b"\xff" + bytes(8) + b"\x7f"):
                        stranger = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                        stranger.sendall(garbage)
                foreign = await other_mesh.node("foreign")
                foreign._joined._control.dial([("127.0.0.1", base)], False)
                await until(lambda: len(told(a, "127.0.0.1")) >= 2, "strangers are told of")
                await until(lambda: foreign._past_incidents, "the foreign node is told, too")
        assert len(told(a, "127.0.0.1")) == len(set(told(a, "127.0.0.1"))), "told more than once"
        assert [info.node_id for info in a.registry.nodes()] == ["a", "b"]
        assert [info.node_id for info in foreign.registry.nodes()] == ["foreign"]

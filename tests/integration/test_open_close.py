"""A network that is opened and closed a thousand times leaves nothing behind, and says why where it cannot open."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import re
import signal
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest
import zmq

import zmesh
from tests.integration.meshes import LOOPBACK, PATIENCE_S, Mesh, config, in_loop, until
from tests.integration.processes import child, number_payload
from zmesh.registry import Registry
from zmesh.runtime.data_plane import DataPlane

CYCLES = 1000


def open_files() -> Counter[str]:
    """What this process has open, by kind: numbers and names of one kind differ from cycle to cycle."""
    found: Counter[str] = Counter()
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{entry}").split("[")[0]] += 1
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return found


def left_over() -> Counter[str]:
    """What of a node's making is not garbage. pyzmq keeps two sockets of its own."""
    return Counter(
        type(each).__name__
        for each in gc.get_objects()
        if isinstance(each, DataPlane | Registry) or (isinstance(each, zmq.Socket) and not each.closed)
    )


def resident_mib() -> float:
    ctypes.CDLL(None).malloc_trim(0)  # a node has glibc keep what is freed
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / (1 << 20)


def threads() -> list[str]:
    """But for the loop's own, of which there are as many as there were calls at once."""
    return [thread.name for thread in threading.enumerate() if not thread.name.startswith(("asyncio_", "uvloop_"))]


async def cycle(home: Path, number: int) -> None:
    """One node's life: it hears itself, joins a group, and goes."""
    async with zmesh.AgentNetwork(config(home, f"node-{number % 3}")) as network:
        agent = await network.register_agent(1, ["echo"], handler=lambda message: message.payload)
        assert (await agent.request(1, b"x")).payload == b"x"
        await agent.join_group("lab")
        await agent.publish("lab", b"y")


@pytest.mark.slow
@in_loop
async def test_a_thousand_cycles_leak_nothing(home: Path) -> None:
    for number in range(20):  # what is made once is made
        await cycle(home, number)
    gc.collect()
    files, before, tasks, objects = open_files(), set(threads()), len(asyncio.all_tasks()), left_over()
    before_mib = resident_mib()
    for number in range(CYCLES):
        await cycle(home, number)
    gc.collect()
    await until(lambda: set(threads()) <= before, "threads have ended")
    # Less than before may be left: what earlier tests of this process had not quite finished.
    await until(lambda: not open_files() - files, "files are closed")
    assert len(asyncio.all_tasks()) <= tasks
    assert not left_over() - objects
    assert resident_mib() - before_mib < 50, "a cycle may leave no more than a few KiB of fragments"


@in_loop
async def test_cycles_beside_a_node_that_stays_leak_nothing_there(home: Path) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        seven = await a.register_agent(7, handler=lambda message: message.payload)
        await seven.join_group("lab")

        async def visit() -> None:
            async with zmesh.AgentNetwork(config(home, "b", bootstrap=a.info().addresses)) as b:
                await b.registry.wait_for_agent(7, PATIENCE_S)
                nine = await b.register_agent(9)
                assert (await nine.request(7, b"x", timeout_s=PATIENCE_S)).payload == b"x"
                await (await nine.publish("lab", b"y")).delivered(PATIENCE_S)

        for _ in range(3):
            await visit()
        await until(lambda: len(a.registry.nodes(zmesh.NodeStatus.ACTIVE)) == 1, "the visitor has left")
        gc.collect()
        files, before = open_files(), set(threads())
        for _ in range(30):
            await visit()
        await until(lambda: len(a.registry.nodes(zmesh.NodeStatus.ACTIVE)) == 1, "the visitor has left")
        await until(lambda: open_files() - files == Counter(), "files are closed")
        await until(lambda: set(threads()) <= before, "threads have ended")


@in_loop
async def test_joins_and_leaves_at_the_same_time_do_no_harm(home: Path, loop: str) -> None:
    network = zmesh.AgentNetwork(config(home, "a"))
    results = await asyncio.gather(
        network.join_network(), network.leave_network(), network.join_network(), return_exceptions=True
    )
    assert [result for result in results if isinstance(result, BaseException)] == []
    results = await asyncio.gather(
        network.join_network(), network.leave_network(), network.leave_network(), return_exceptions=True
    )
    assert [type(result) for result in results] == [zmesh.UsageError, type(None), type(None)]
    assert not network.is_joined


@in_loop
async def test_joining_that_is_cancelled_leaves_nothing_open(home: Path) -> None:
    """Cancelled at every moment that tells one step of joining from the next, and while it waits for an answer."""
    unanswered = config(home, "a", bootstrap=("tcp://127.0.0.1:9",))
    for turns in range(0, 120, 3):
        network = zmesh.AgentNetwork(unanswered)
        task = asyncio.create_task(network.join_network())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        assert not network.is_joined
    network = zmesh.AgentNetwork(unanswered)
    task = asyncio.create_task(network.join_network())
    await until(lambda: network.is_joined, "it waits for an answer")
    task.cancel()
    await asyncio.wait((task,))
    async with zmesh.AgentNetwork(config(home, "a")):  # the name is free again
        pass


@pytest.mark.parametrize("turns", [1, 2, 5])
@in_loop
async def test_leaving_that_is_cancelled_closes_everything_all_the_same(home: Path, tmp_path: Path, turns: int) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        seven = await a.register_agent(7)
        async with child(home, "b", a, tmp_path / "numbers") as stopped:
            await (await seven.send(9, number_payload(1))).delivered()  # the link stands, so leaving waits for it
            stopped.signal(signal.SIGSTOP)
            receipt = await seven.send(9, number_payload(2))
            leaving = asyncio.create_task(a.leave_network())
            for _ in range(turns):
                await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait((leaving,))
            with pytest.raises(zmesh.PeerLost):
                await receipt.delivered()


# -- where it cannot open --------------------------------------------------------------------------------------------


@in_loop
async def test_a_port_in_use_is_named(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for base in (port, port - 1, port - 3):
            network = zmesh.AgentNetwork(config(home, "a", listen=f"tcp://127.0.0.1:{base}"))
            with pytest.raises(zmesh.AddressInUse, match=rf"port {port} of 127\.0\.0\.1 is in use") as told:
                await network.join_network()
            assert "\n" not in str(told.value)
            assert not network.is_joined
    async with zmesh.AgentNetwork(config(home, "a", listen=LOOPBACK)):
        pass


@in_loop
async def test_an_address_of_another_machine_is_refused(home: Path) -> None:
    network = zmesh.AgentNetwork(config(home, "a", listen="tcp://192.0.2.1:7650"))
    with pytest.raises(
        zmesh.ConfigurationError, match=r"cannot listen on 192\.0\.2\.1: this machine has no such address"
    ):
        await network.join_network()


@in_loop
async def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file where the directory should be: even root, who may write anywhere, cannot make one there."""
    home = tmp_path / "home"
    home.write_text("not a directory")
    network = zmesh.AgentNetwork(config(home, "a"))
    with pytest.raises(zmesh.KeystoreError, match=re.escape(str(home))) as told:
        await network.join_network()
    assert "\n" not in str(told.value)


@in_loop
async def test_keys_that_others_may_read_are_refused(home: Path) -> None:
    async with zmesh.AgentNetwork(config(home, "a")):
        pass
    identity = home / "default" / "nodes" / "a" / "identity.msgpack"
    identity.chmod(0o644)
    network = zmesh.AgentNetwork(config(home, "a"))
    with pytest.raises(zmesh.KeystoreError, match=r"identity\.msgpack") as told:
        await network.join_network()
    assert "\n" not in str(told.value)
    identity.chmod(0o600)
    async with zmesh.AgentNetwork(config(home, "a")):
        pass

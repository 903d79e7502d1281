"""Programs written with asyncio on simulated hosts: paused, killed, restarted, and judged like any other.

They sleep by the virtual clock: what happens within a second of it is decided by the seed, and takes no time here.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from zmesh.testing import Conditions, Delay, Host, World, between
from zmesh.testing.checkers import Checker
from zmesh.testing.coroutines import Place, direct, program

FIXED = Conditions(Delay.fixed(0.01))


async def echo(place: Place) -> None:
    async for sender, message in place:
        place.send(sender, f"echo {message}")


class Asker:
    """Asks once a second, and gives up on an answer after half of one."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def main(self, place: Place) -> None:
        number = 0
        while True:
            number += 1
            place.send("echo", number)
            try:
                async with asyncio.timeout(0.5):
                    _, answer = await place.receive()
                    self.heard.append(answer)
            except TimeoutError:
                self.heard.append("timeout")
            await asyncio.sleep(1.0)


def make() -> tuple[World, Host, Asker]:
    world, asker = World(1, conditions=FIXED), Asker()
    server = world.add("echo", program(echo))
    server.start()
    world.add("asker", program(asker.main)).start()
    return world, server, asker


def test_programs_talk() -> None:
    world, _, asker = make()
    world.run_for(2.5)
    assert asker.heard == ["echo 1", "echo 2", "echo 3"]


def test_a_cut_makes_them_time_out_and_a_heal_brings_them_back() -> None:
    world, _, asker = make()
    world.run_for(0.5)
    island = between(("echo",), ("asker",))
    world.network.apply(*island)
    world.run_for(1.2)
    world.network.lift(*island)
    world.run_for(1.5)
    assert asker.heard == ["echo 1", "timeout", "echo 3"]


def test_a_paused_program_does_nothing_and_then_all() -> None:
    world, server, asker = make()
    world.run_for(0.5)
    server.pause()
    world.run_for(3.0)
    assert asker.heard == ["echo 1", "timeout", "timeout"]
    server.resume()
    world.run_for(1.0)
    assert asker.heard == ["echo 1", "timeout", "timeout", "echo 2"]


def test_a_killed_program_runs_no_further_and_its_next_run_starts_anew() -> None:
    ended: list[int] = []

    async def main(place: Place) -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            ended.append(1)
            place.send("echo", "from the grave")

    world, _, _ = make()
    host = world.add("mortal", program(main))
    host.start()
    world.run_for(1.0)
    sent = host.sent
    host.kill()
    gc.collect()
    world.run_for(1.0)
    assert (ended, host.sent - sent) == ([], 0)
    host.start()
    world.run_for(150.0)
    assert ended == [1]
    assert host.sent - sent == 1


def test_an_unhandled_exception_is_a_failure() -> None:
    async def main(place: Place) -> None:
        await asyncio.sleep(1.0)
        raise KeyError("missing")

    world = World(1)
    world.add("a", program(main)).start()
    with pytest.raises(AssertionError, match=r"1\.000000 s at a: its main coroutine raised: KeyError: 'missing'"):
        world.run_for(2.0)


def test_an_exception_of_a_task_nobody_awaits_is_one_too() -> None:
    async def wrong() -> None:
        raise KeyError("missing")

    async def main(place: Place) -> None:
        task = asyncio.create_task(wrong())
        await asyncio.sleep(1.0)
        del task
        await asyncio.sleep(5.0)

    world = World(1)
    world.add("a", program(main)).start()
    with pytest.raises(AssertionError, match="never retrieved: KeyError"):
        world.run_for(10.0)


def test_a_program_cannot_swallow_the_verdict_of_a_checker() -> None:
    class Never(Checker):
        def observed(self, host: Host, observation: Any) -> None:
            self.world.fail(host, "never")

    async def main(place: Place) -> None:
        try:
            place.observe("something")
        except Exception:  # noqa: BLE001 - this is what the test is about
            await asyncio.sleep(100.0)

    world = World(1)
    world.watch(Never(world))
    world.add("a", program(main)).start()
    with pytest.raises(AssertionError, match="never"):
        world.run_for(1.0)


def test_an_upgrade_is_another_program_at_the_next_start() -> None:
    async def shout(place: Place) -> None:
        async for sender, message in place:
            place.send(sender, f"ECHO {message}")

    world, server, asker = make()
    world.run_for(0.5)
    server.kill()
    server.program = program(shout)
    server.start()
    world.run_for(1.0)
    assert asker.heard == ["echo 1", "ECHO 2"]


def test_the_same_seed_gives_the_same_run() -> None:
    def digest(seed: int) -> str:
        world = World(seed, full_trace=True)
        world.add("echo", program(echo)).start()
        world.add("asker", program(Asker().main)).start()
        world.run_for(5.0)
        return world.trace.digest()

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_a_director_and_programs_share_one_world() -> None:
    world, server, asker = make()

    async def scenario() -> None:
        await asyncio.sleep(0.5)
        server.kill()
        await asyncio.sleep(1.5)
        server.start()
        await asyncio.sleep(1.0)

    direct(world, scenario())
    assert asker.heard == ["echo 1", "timeout", "echo 3"]


def test_what_waits_for_ever_is_not_collected() -> None:
    """asyncio holds tasks weakly: this one would end, by its ``finally``, whenever garbage is collected."""
    ended = []

    async def main(place: Place) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(place.name)

    world = World(1)
    world.add("a", program(main)).start()
    gc.collect()
    world.run_for(1.0)
    assert ended == []
    world.close()
    assert ended == ["a"]


def test_a_world_that_closes_leaves_nothing_suspended() -> None:
    """Not even what waits, on its way out, inside another that does, and starts a task there."""
    steps = []

    async def step(number: int) -> None:
        steps.append(number)
        await asyncio.sleep(1.0)

    async def inner() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.gather(step(1), step(2))
            steps.append(3)

    async def main(place: Place) -> None:
        try:
            await inner()
        finally:
            await step(4)

    world = World(1)
    world.add("a", program(main)).start()
    world.run_for(1.0)
    world.close()
    assert steps == [4]
    del world
    gc.collect()  # whatever is closed only now would be a warning, which fails the test
    assert steps == [4]

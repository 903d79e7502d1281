"""Asyncio under virtual time: what is standard works, nothing waits for real, order is the same everywhere."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from zmesh.errors import UsageError
from zmesh.testing import World
from zmesh.testing.coroutines import direct
from zmesh.testing.loop import VirtualLoop

ROOT = Path(__file__).parents[2]


class Clock:
    now = 0.0


def run(main: Callable[[], Awaitable[Any]]) -> tuple[Any, float]:
    """What a coroutine returns, and how much virtual time it took."""
    clock, failures = Clock(), []
    loop = VirtualLoop(lambda: clock.now, lambda message, error: failures.append(error or RuntimeError(message)))

    async def body() -> Any:
        return await main()

    task = loop.create_task(body())
    loop.run_ready()
    while not task.done() and not failures and (deadline := loop.next_deadline()) is not None:
        clock.now = max(clock.now, deadline)
        loop.run_ready()
    loop.close()
    if failures:
        raise failures[0]
    return task.result(), clock.now


def test_sleeping_takes_virtual_time_alone() -> None:
    async def main() -> list[str]:
        order: list[str] = []

        async def work(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            order.append(name)

        await asyncio.gather(work("slow", 86400.0), work("fast", 1.0), work("also fast", 1.0))
        return order

    assert run(main) == (["fast", "also fast", "slow"], 86400.0)


def test_timeouts_and_cancellation() -> None:
    async def main() -> tuple[str, str]:
        try:
            async with asyncio.timeout(2.0):
                await asyncio.Event().wait()
        except TimeoutError:
            first = "timed out"
        task = asyncio.create_task(asyncio.sleep(60.0))
        asyncio.get_running_loop().call_later(1.0, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return first, "cancelled"
        return first, "not cancelled"

    assert run(main) == (("timed out", "cancelled"), 3.0)


def test_queues_locks_wait_for_and_threads() -> None:
    async def main() -> list[object]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        lock = asyncio.Lock()

        async def produce() -> None:
            for number in range(3):
                async with lock:
                    await asyncio.sleep(0.5)
                    await queue.put(number)

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            got = [await asyncio.wait_for(queue.get(), 1.0) for _ in range(3)]
        return [*got, await asyncio.to_thread(sum, [1, 2])]

    assert run(main) == ([0, 1, 2, 3], 1.5)


def test_eager_starts_and_contexts_work_as_in_asyncio() -> None:
    async def main() -> list[str]:
        names: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
        task = asyncio.create_task(asyncio.sleep(0.0), name="mine")
        names.append(task.get_name())
        loop.set_task_factory(None)
        await task
        names.append(type(asyncio.current_task()).__name__)
        return names

    assert run(main)[0] == ["mine", "_Task"]


def test_an_exception_of_a_callback_is_told() -> None:
    async def main() -> None:
        def wrong() -> None:
            raise ValueError("wrong")

        asyncio.get_running_loop().call_soon(wrong)
        await asyncio.sleep(1.0)

    with pytest.raises(ValueError, match="wrong"):
        run(main)


def test_a_handler_of_exceptions_may_be_set() -> None:
    async def main() -> list[str]:
        told: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(str(context["exception"])))
        loop.call_soon([].pop)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return told

    assert run(main)[0] == ["pop from empty list"]


@pytest.mark.parametrize(
    "reach_out",
    [
        lambda: asyncio.open_connection("127.0.0.1", 1),
        lambda: asyncio.create_subprocess_exec("true"),
        lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1),
        lambda: asyncio.get_running_loop().add_reader(0, print),
    ],
)
def test_there_is_nothing_outside(reach_out: Callable[[], Any]) -> None:
    async def main() -> None:
        await reach_out()

    with pytest.raises(UsageError, match="nothing outside a simulation"):
        run(main)


def test_who_never_waits_is_stopped() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - what it must not do
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="never waits for time to pass"):
        run(main)


def test_nothing_runs_on_a_closed_loop() -> None:
    clock, done = Clock(), []
    loop = VirtualLoop(lambda: clock.now, lambda message, error: done.append(message))

    async def main() -> None:
        try:
            await asyncio.sleep(1.0)
        finally:
            done.append("finally")

    task = loop.create_task(main())
    loop.run_ready()
    loop.close()
    clock.now = 5.0
    loop.run_ready()
    assert (done, loop.next_deadline(), task.done()) == ([], None, False)


def test_a_generator_that_is_left_runs_its_finally() -> None:
    async def main() -> list[str]:
        done: list[str] = []

        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(1.0)
                done.append("finally")

        async for _ in numbers():
            break
        await asyncio.sleep(2.0)
        return done

    assert run(main)[0] == ["finally"]


ORDER = """
import asyncio
from zmesh.testing import World
from zmesh.testing.coroutines import direct

async def main():
    ended = []
    async def wait(number):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(number)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(wait(number))
            await asyncio.sleep(1)
            raise ValueError
    except* ValueError:
        pass
    done, _ = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0, number)) for number in range(20)])
    return ended, [task.result() for task in done]

padding = [object() for _ in range({padding})]
print(direct(World(1), main()))
"""


def test_sets_of_tasks_have_one_order_in_every_process() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", ORDER.replace("{padding}", str(padding))],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for padding in (0, 12345)
    }
    assert len(told) == 1
    assert str(list(range(20))) in told.pop()


def test_a_director_lets_the_world_run() -> None:
    world = World(1)
    happened: list[float] = []
    world.at(1.0, lambda: happened.append(world.now))
    world.at(3.0, lambda: happened.append(world.now))

    async def scenario() -> str:
        await asyncio.sleep(2.0)
        assert happened == [1.0]
        await asyncio.sleep(2.0)
        return "directed"

    assert direct(world, scenario()) == "directed"
    assert (happened, world.now) == ([1.0, 3.0], 4.0)


def test_a_director_that_waits_for_nothing_is_told() -> None:
    async def scenario() -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="nothing will ever happen"):
        direct(World(1), scenario())

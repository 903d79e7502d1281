"""The pytest plugin, as a user meets it: in a project of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = '''
import asyncio
import random

import pytest

import zmesh

from zmesh.testing import Draw, Host


async def counter(place):
    """Counts what it hears; forgets the count when it is restarted, which is its bug."""
    count = 0
    async for sender, message in place:
        count += 1
        place.send(sender, count)


async def nothing(place):
    await asyncio.Event().wait()


class Client:
    def __init__(self):
        self.last = 0
        self.went_back = False

    async def main(self, place):
        while True:
            place.send("counter", "count")
            try:
                async with asyncio.timeout(0.2):
                    _, count = await place.receive()
                    self.went_back |= count < self.last
                    self.last = count
            except TimeoutError:
                pass


@pytest.mark.simulated(seeds=12)
async def test_counts_grow(simulation):
    client = Client()
    simulation.start("counter", counter)
    simulation.start("client", client.main)
    simulation.chaos([Draw("kill", 1, (0.1, 1.0)), Draw("cut_out", 0, (0.1, 1.0))], for_s=30.0)
    await asyncio.sleep(30.0)
    simulation.heal()
    before = client.last
    await simulation.until(lambda: client.last != before, within_s=5.0, what="counting")
    assert not client.went_back


@pytest.mark.simulated(seeds=2)
async def test_a_partition(simulation):
    client = Client()
    simulation.start("counter", counter)
    simulation.start("client", client.main)
    await asyncio.sleep(1.0)
    with simulation.partition("counter"):
        await asyncio.sleep(1.0)
        before = client.last
        await asyncio.sleep(1.0)
        assert client.last == before
    with simulation.paused("counter"):
        await asyncio.sleep(1.0)
    assert await simulation.until(lambda: client.last > before, within_s=1.0) < 1.0


class Echo:
    def __init__(self):
        self.starts = 0

    async def main(self, place):
        self.starts += 1
        async with place.network as network:
            await network.register_agent(1, handler=lambda message: message.payload)
            await asyncio.Event().wait()


class Asker:
    def __init__(self):
        self.answered = 0

    async def main(self, place):
        async with place.network as network:
            agent = await network.register_agent(2)
            while True:
                try:
                    await agent.request(1, b"?", timeout_s=0.3)
                    self.answered += 1
                except zmesh.NetworkError:
                    pass
                await asyncio.sleep(0.1)


@pytest.mark.simulated(seeds=2)
async def test_faults_as_fixtures(simulation, cut, lose, pause, resume, kill, restart, heal):
    echo, asker = Echo(), Asker()
    simulation.start("echo", echo.main)
    simulation.start("asker", asker.main)

    async def answers_for(seconds):
        before = asker.answered
        await asyncio.sleep(seconds)
        return asker.answered - before

    async def is_answered():
        before = asker.answered
        await simulation.until(lambda: asker.answered > before, within_s=10.0, what="an answer")

    await is_answered()
    for begin, end in [
        (lambda: cut("echo"), heal),
        (lambda: pause("echo"), lambda: resume("echo")),
        (lambda: kill("echo"), heal),
        (lambda: kill("echo"), lambda: restart("echo")),
    ]:
        begin()
        await asyncio.sleep(0.5)
        assert await answers_for(2.0) == 0
        end()
        await is_answered()
    assert echo.starts == 3
    restart("echo")
    await is_answered()
    assert echo.starts == 4
    await asyncio.sleep(1.0)
    calm = await answers_for(10.0)
    lose(0.5)
    assert 0 < await answers_for(10.0) < calm
    heal()
    await asyncio.sleep(1.0)
    assert await answers_for(10.0) > calm - 5


def test_one_that_is_no_coroutine(simulation):
    simulation.start("idle", nothing)
    simulation.world.run_for(5.0)
    assert simulation.world.now == 5.0


def test_without_a_simulation():
    assert True
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["zmesh.testing.plugin"]\n', encoding="utf-8")
    (tmp_path / "test_mine.py").write_text(TESTS, encoding="utf-8")
    return tmp_path


def run_pytest(project: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False).stdout


def test_a_bug_is_found_by_a_seed_and_shown_again_by_it(project: Path) -> None:
    first = run_pytest(project, "-k", "grow")
    assert "12 passed" not in first
    failed = [line for line in first.splitlines() if line.startswith("FAILED")]
    assert failed
    seed = failed[0].partition("[seed")[2].partition("]")[0]
    assert (
        f"again: pytest 'test_mine.py::test_counts_grow[seed{seed}]' --zmesh-first-seed {seed} --zmesh-seeds 1" in first
    )
    again = run_pytest(
        project, f"test_mine.py::test_counts_grow[seed{seed}]", "--zmesh-first-seed", seed, "--zmesh-seeds", "1"
    )
    assert "1 failed" in again
    traces = [line for line in (first + again).splitlines() if line.startswith(f"seed {seed}, ")]
    assert len(traces) == 2
    assert traces[0] == traces[1]


def test_faults_conditions_and_plain_functions(project: Path) -> None:
    assert "15 passed" in run_pytest(project, "-k", "not grow")
    assert "10 passed" in run_pytest(project, "-k", "not grow", "--zmesh-seeds", "3")

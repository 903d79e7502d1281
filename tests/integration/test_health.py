"""Agents that are not well, and nodes in maintenance, get no new work by capability, and everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, in_loop, until
from zmesh import Capability, NodeStatus
from zmesh import RegistryEventKind as Kind
from zmesh.directory import Directory

OFTEN_S = 0.01
WORK = Capability("work")


class Patient:
    """An agent's health as its test wants it: what a check does next, and how often it was asked."""

    def __init__(self, outcome: Any = True) -> None:
        self.outcome = outcome
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0

    async def check(self) -> bool | None:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.outcome == "hang":
                await asyncio.get_running_loop().create_future()
            if isinstance(self.outcome, BaseException):
                raise self.outcome
            return self.outcome  # type: ignore[no-any-return]  # a bool or None by now
        finally:
            self.at_once -= 1

    def plainly(self) -> bool | None:
        self.asked += 1
        return self.outcome  # type: ignore[no-any-return]  # as above

    def often(self, **settings: Any) -> zmesh.HealthCheck:
        return zmesh.HealthCheck(self.check, **({"interval_s": OFTEN_S} | settings))


def status_on(network: zmesh.AgentNetwork, agent_id: int) -> NodeStatus | None:
    agent = network.registry.agent(agent_id)
    return agent.status if agent is not None else None


async def everywhere(mesh: Mesh, agent_id: int, status: NodeStatus) -> None:
    """Wait until every node of the mesh lists the agent as that."""
    joined = [node for node in mesh._nodes if node.is_joined]
    await until(
        lambda: {status_on(node, agent_id) for node in joined} == {status}, f"{agent_id} is {status} everywhere"
    )


async def who_works(asker: zmesh.Agent, times: int = 6) -> set[int]:
    """Which agents get what is sent to the capability."""
    return {(await asker.request(WORK, b"", timeout_s=PATIENCE_S)).from_agent for _ in range(times)}


async def two_workers(mesh: Mesh, health: zmesh.HealthCheck) -> tuple[zmesh.Agent, zmesh.Agent]:
    """Agents 1, with that check, and 2 on two nodes can work; 8 and 9, one on each, ask them."""
    a, b = await mesh.pair()
    await a.register_agent(1, ["work"], handler=lambda message: b"1", health=health)
    await b.register_agent(2, ["work"], handler=lambda message: b"2")
    eight, nine = await a.register_agent(8), await b.register_agent(9)
    await asyncio.gather(a.registry.wait_for_agent(2, PATIENCE_S), b.registry.wait_for_agent(1, PATIENCE_S))
    return eight, nine


FAILURES = {
    "raises": ValueError("broken"),
    "says no": False,
    "hangs": "hang",
    "was cancelled": asyncio.CancelledError(),
}


@pytest.mark.parametrize("failure", list(FAILURES))
@in_loop
async def test_an_agent_that_is_not_well_gets_no_work_until_it_is_well_again(
    home: Path, loop: str, failure: str
) -> None:
    async with Mesh(home) as mesh:
        patient = Patient()
        askers = await two_workers(mesh, patient.often(timeout_s=0.05 if failure == "hangs" else PATIENCE_S))
        await everywhere(mesh, 1, NodeStatus.ACTIVE)
        for asker in askers:
            assert await who_works(asker) == {1, 2}
        patient.outcome = FAILURES[failure]
        await everywhere(mesh, 1, NodeStatus.INACTIVE)
        for asker in askers:
            assert await who_works(asker) == {2}, "by capability it is passed over"
            assert (await asker.request(1, b"", timeout_s=PATIENCE_S)).payload == b"1", "by id it is there"
        patient.outcome = None
        await everywhere(mesh, 1, NodeStatus.ACTIVE)
        for asker in askers:
            assert await who_works(asker) == {1, 2}
        assert patient.most_at_once == 1


@in_loop
async def test_without_the_rule_an_agent_that_is_not_well_is_given_work(home: Path) -> None:
    """The ablation of the rule that the test above is about: its check does not hold then."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_list", "_unlist"):
            rule: Callable[..., None] = getattr(Directory, name)
            patch.setattr(
                Directory, name, lambda self, node, agent, rule=rule: rule(self, node, replace(agent, healthy=True))
            )
        async with Mesh(home) as mesh:
            askers = await two_workers(mesh, Patient(outcome=False).often())
            await everywhere(mesh, 1, NodeStatus.INACTIVE)
            for asker in askers:
                assert await who_works(asker) == {1, 2}


@in_loop
async def test_an_agent_with_a_check_gets_no_work_before_its_first_check_has_passed(home: Path) -> None:
    async with Mesh(home) as mesh:
        patient = Patient("hang")
        eight, nine = await two_workers(mesh, patient.often(timeout_s=PATIENCE_S))
        await until(lambda: patient.asked, "it is asked")
        assert await who_works(eight) == await who_works(nine) == {2}


@in_loop
async def test_a_plain_check_will_do_and_a_falsy_answer_is_no(home: Path) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        patient = Patient(None)
        await a.register_agent(1, ["work"], health=zmesh.HealthCheck(patient.plainly, interval_s=OFTEN_S))
        await everywhere(mesh, 1, NodeStatus.ACTIVE)
        patient.outcome = 0
        await everywhere(mesh, 1, NodeStatus.INACTIVE)


@in_loop
async def test_health_is_told_once_for_each_change(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        told: list[tuple[Kind, bool, NodeStatus]] = []

        async def watch() -> None:
            async for event in b.registry.watch():
                if event.agent is not None:
                    told.append((event.kind, event.agent.healthy, event.agent.status))

        watching = asyncio.create_task(watch())
        patient = Patient("hang")
        agent = await a.register_agent(1, ["work"], health=patient.often(timeout_s=PATIENCE_S))
        await everywhere(mesh, 1, NodeStatus.INACTIVE)
        await agent.close()
        patient.outcome = True
        agent = await a.register_agent(1, ["work"], health=patient.often())
        for outcome, status in ((True, NodeStatus.ACTIVE), (False, NodeStatus.INACTIVE), (True, NodeStatus.ACTIVE)):
            patient.outcome, before = outcome, patient.asked
            await everywhere(mesh, 1, status)
            await until(lambda before=before: patient.asked > before + 3, "it is asked again and again")  # type: ignore[misc]
        await agent.close()
        asked = patient.asked
        await b.leave_network()
        await watching
        assert patient.asked == asked, "who is closed is not asked any more"
        changes = [(healthy, status) for kind, healthy, status in told if kind is Kind.AGENT_CHANGED]
        assert changes == [(True, NodeStatus.ACTIVE), (False, NodeStatus.INACTIVE), (True, NodeStatus.ACTIVE)]


@in_loop
async def test_a_capability_whose_agents_are_all_unwell_is_waited_for(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        patient = Patient(outcome=False)
        await a.register_agent(1, ["work"], handler=lambda message: b"done", health=patient.often())
        nine = await b.register_agent(9)
        await b.registry.wait_for_agent(1, PATIENCE_S)
        with pytest.raises(zmesh.UnknownAgent, match=r"no active agent has the capability 'work'; .*known: work"):
            await nine.request(WORK, b"")
        waiting = asyncio.create_task(b.registry.wait_for_capability("work", PATIENCE_S))
        patient.outcome = True
        assert (await waiting).agent_id == 1
        assert (await nine.request(WORK, b"", timeout_s=PATIENCE_S)).payload == b"done"


@in_loop
async def test_a_check_that_ignores_being_cancelled_keeps_nobody_from_leaving(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    released = asyncio.Event()
    started = asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            try:
                started.set()
                await released.wait()
            except asyncio.CancelledError:
                continue

    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        await a.register_agent(1, health=zmesh.HealthCheck(stubborn, timeout_s=PATIENCE_S))
        await started.wait()
        await a.leave_network()
    assert "the health check of agent 1 goes on although it was cancelled" in caplog.text
    released.set()


@pytest.mark.parametrize(
    "make",
    [
        lambda: zmesh.HealthCheck("ping"),  # type: ignore[arg-type]  # that is the test
        lambda: zmesh.HealthCheck(bool, interval_s=0),
        lambda: zmesh.HealthCheck(bool, timeout_s=float("inf")),
        lambda: zmesh.HealthCheck(bool, timeout_s=float("nan")),
    ],
)
def test_a_check_that_cannot_work_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(zmesh.ConfigurationError):
        make()


@in_loop
async def test_what_is_no_health_check_is_refused_and_leaves_nothing_behind(home: Path) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        with pytest.raises(zmesh.ConfigurationError, match=r"health is a zmesh\.HealthCheck"):
            await a.register_agent(1, health=lambda: True)  # type: ignore[arg-type]  # that is the test
        assert a.registry.agents() == []

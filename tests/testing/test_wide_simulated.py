"""``AgentNetwork`` in a simulated mesh of more members than a node should be connected to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from zmesh import Agent, AgentMessage, AgentNetwork, Receipt
from zmesh.core.membership.settings import PRESETS
from zmesh.testing import Place, Simulation, direct

NODES = 12


class Mesh:
    """Node ``n1``, ``n2``, ... each with the agent of its number, and what that has heard."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.networks: dict[int, AgentNetwork] = {}
        self.agents: dict[int, Agent] = {}
        self.work: dict[int, list[Callable[[Agent], Awaitable[None]]]] = {}
        self.heard: dict[int, list[bytes]] = {}
        for number in range(1, NODES + 1):
            simulation.start(f"n{number}", lambda place, n=number: self.main(place, n))  # type: ignore[misc]

    async def main(self, place: Place, number: int) -> None:
        heard: list[bytes] = []
        self.heard[number], self.work[number] = heard, []

        def hear(message: AgentMessage) -> None:
            heard.append(message.payload)

        async with place.network as network:
            self.networks[number] = network
            self.agents[number] = await network.register_agent(number, handler=hear)
            while True:
                await asyncio.sleep(0.01)
                while self.work[number]:
                    await self.work[number].pop(0)(self.agents[number])

    async def do(self, number: int, work: Callable[[Agent], Awaitable[None]]) -> None:
        """Have a node do something, on its own loop; returns when it is done."""
        done: list[bool] = []

        async def works(agent: Agent) -> None:
            await work(agent)
            done.append(True)

        self.work[number].append(works)
        await self.simulation.until(lambda: done, 30.0, f"n{number} has done its work")

    async def complete(self) -> None:
        def is_complete() -> bool:
            networks = self.networks.values()
            return len(networks) == NODES and all(
                network.registry.agent(number) for network in networks for number in range(1, NODES + 1)
            )

        await self.simulation.until(is_complete, 60.0, "all see all")

    def connections(self) -> list[int]:
        """Links and subscriptions of each node."""
        nodes = [self.networks[number]._joined for number in range(1, NODES + 1)]
        return [len(node.plane.links.by_node) + len(node.publishing._hearing._peers) for node in nodes]


async def delivered(sending: Awaitable[Receipt]) -> None:
    await (await sending).delivered(10.0)


@pytest.mark.parametrize("seed", range(3))
def test_an_idle_node_is_connected_to_nobody_and_a_first_broadcast_reaches_all(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setitem(PRESETS, "lan", replace(PRESETS["lan"], near_size=1))
    reached: list[int] = []

    async def director(simulation: Simulation) -> None:
        mesh = Mesh(simulation)
        await mesh.complete()
        await asyncio.sleep(20.0)
        assert mesh.connections() == [0] * NODES
        assert "n7" not in mesh.networks[2]._joined.plane.links._addresses, "its way is not known yet"
        await mesh.do(2, lambda agent: delivered(agent.send(7, b"to one")))
        assert mesh.heard[7] == [b"to one"]
        await mesh.do(5, lambda agent: delivered(agent.publish("nobody is in it", b"first of all")))
        await mesh.do(5, lambda agent: delivered(agent.broadcast(b"to all")))
        others = [mesh.heard[number][-1:] for number in range(1, NODES + 1) if number != 5]
        assert others == [[b"to all"]] * (NODES - 1)
        reached.extend(mesh.connections())

    simulation = Simulation(seed)
    try:
        direct(simulation.world, director(simulation))
    finally:
        simulation.close()
    assert reached[4] == NODES - 1, "a link from who publishes to each that hears it"
    assert sorted(reached)[:-1] == [2] * (NODES - 3) + [3, 3], "its subscription and its link to it; two have spoken"

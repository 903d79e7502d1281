"""What ``zmesh`` does on the mesh: join as a light client, one thing, leave.

A client finds the mesh through the nodes that run on this machine, the bootstrap addresses and mDNS, all at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from zmesh import (
    Agent,
    AgentNetwork,
    Capability,
    Incident,
    NetworkConfig,
    Refused,
    RegistryEvent,
    RequestTimeout,
    UnknownAgent,
)
from zmesh.tools.agents import free_agent_id
from zmesh.tools.console import Console
from zmesh.tools.options import local_addresses
from zmesh.tools.reports import Report, agent_row, clean, message_report, node_row, payload_fields, table
from zmesh.tools.stopping import cancelled

__all__ = ["Client", "NobodyThere", "joined"]

# Members tell each other of third nodes by heartbeats, four a second on a LAN: after two with no news there is none.
QUIET_S = 0.6


# Incidents that say why nobody was met: the one clock or the other is wrong, for example.
REFUSALS = ("refused_by_peer", "refused_certificate", "foreign_mesh")


class NobodyThere(UnknownAgent):
    """No node of the mesh answered."""


class Client:
    """The commands, on a joined network. ``timeout_s`` bounds the waiting for others in each."""

    def __init__(self, network: AgentNetwork, console: Console, timeout_s: float) -> None:
        self._network = network
        self._console = console
        self._timeout_s = timeout_s

    async def members(self) -> None:
        """Print the nodes, one a line."""
        await self._until_quiet()
        nodes = [node for node in self._network.registry.nodes() if not node.is_self]
        self._print_rows([node_row(node) for node in nodes], [msgspec.to_builtins(node) for node in nodes], "member")

    async def agents(self, capability: str | None) -> None:
        """Print the agents, one a line."""
        await self._until_quiet()
        agents = self._network.registry.agents(capability=capability)
        self._print_rows([agent_row(agent) for agent in agents], [msgspec.to_builtins(a) for a in agents], "agent")

    async def send(self, to: int | Capability, payload: bytes) -> None:
        """Send one message and wait until it was taken in."""
        async with self._agent() as agent:
            await self._until_known(to)
            receipt = await agent.send(to, payload)
            await receipt.delivered(self._timeout_s)
        self._console.report(Report("sent", [f"delivered {len(payload):,} bytes"], {"message_id": receipt.message_id}))

    async def request(self, to: int | Capability, payload: bytes) -> None:
        """Send one request and print the answer's payload, on anything but a terminal byte for byte."""
        async with self._agent() as agent:
            await self._until_known(to)
            answer = await agent.request(to, payload, timeout_s=self._timeout_s)
        if self._console.as_json:
            sender = {"from_agent": answer.from_agent, "from_node": answer.sender_node}
            self._console.report(Report("answer", fields={**sender, **payload_fields(answer.payload)}))
        elif sys.stdout.isatty():
            print(clean(answer.payload.decode(errors="backslashreplace")))
        else:
            self._console.raw(answer.payload)

    async def listen(self, groups: Sequence[str], agent_id: int | None, count: int | None) -> None:
        """Print broadcasts, messages of the groups and those for the agent, until ``count`` have come."""
        async with self._agent(agent_id) as agent:
            for group in groups:
                await agent.join_group(group)
            listening = {"agent_id": agent.agent_id, "groups": list(groups)}
            self._console.report(Report("listening", [f"listening as agent {agent.agent_id}"], listening))
            received = 0
            async for message in agent:
                self._console.report(message_report(message))
                received += 1
                if received == count:
                    return

    @contextlib.asynccontextmanager
    async def _agent(self, agent_id: int | None = None) -> AsyncIterator[Agent]:
        own_id = free_agent_id(self._network, "client") if agent_id is None else agent_id
        agent = await self._network.register_agent(own_id)
        try:
            yield agent
        finally:
            await agent.close()

    async def _until_known(self, to: int | Capability) -> None:
        """Wait until somebody has that id or capability. Raises ``UnknownAgent``."""
        registry = self._network.registry

        def known(_event: RegistryEvent) -> bool:
            return bool(registry.agents(capability=to.name) if isinstance(to, Capability) else registry.agent(to))

        if not await _seen(self._network, known, self._timeout_s):
            what = f"the capability {to.name!r}" if isinstance(to, Capability) else f"the id {to}"
            raise UnknownAgent(f"no agent has {what} ('zmesh agents' lists them)")

    async def _until_quiet(self) -> None:
        """Wait until the mesh has told us all it knows, or the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                events = self._network.registry.watch()
                while True:
                    await asyncio.wait_for(anext(events), QUIET_S)

    def _print_rows(self, rows: Sequence[Sequence[str]], objects: Sequence[dict[str, object]], event: str) -> None:
        if not self._console.as_json:
            self._console.lines(table(rows))
            return
        for fields in objects:
            self._console.report(Report(event, fields=fields))


@contextlib.asynccontextmanager
async def joined(config: NetworkConfig, timeout_s: float) -> AsyncIterator[AgentNetwork]:
    """The joined network, once a node of it has been met. Raises ``NobodyThere``, or ``Refused`` by those there are."""
    network = AgentNetwork(config)
    refusals: list[Incident] = []
    watching = asyncio.create_task(_watch_refusals(network, refusals))
    try:
        if not await _has_met_somebody(network, timeout_s):
            if refusals:
                raise Refused(refusals[-1].reason)
            raise NobodyThere(
                f"no node of the mesh {config.mesh_name!r} answered within {timeout_s:g} s: start 'zmesh-node' on this "
                "machine, or name one with --bootstrap tcp://HOST:PORT"
            )
        yield network
    finally:
        await network.leave_network()
        await cancelled(watching)


async def _watch_refusals(network: AgentNetwork, refusals: list[Incident]) -> None:
    async for incident in network.incidents():
        if incident.kind in REFUSALS:
            refusals.append(incident)


async def _has_met_somebody(network: AgentNetwork, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await network.join_network(local_addresses(network.config))
            await network.registry.wait_for_nodes(2, timeout_s)
    except (TimeoutError, RequestTimeout):
        return False
    return True


async def _seen(network: AgentNetwork, wanted: Callable[[RegistryEvent], bool], timeout_s: float) -> bool:
    """Whether such an event came in time; what is there already counts, as ``watch`` begins with it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            async for event in network.registry.watch():
                if wanted(event):
                    return True
    return False

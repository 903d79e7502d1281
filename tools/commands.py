"""What the prompt's commands do. Each answers with one report; a failure is a report too, and ends nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from zmesh import Agent, AgentNetwork, NetworkError
from zmesh.tools.banner import INVITATION_S, next_machine
from zmesh.tools.prompt import Command, help_lines, parse_command, parse_destination
from zmesh.tools.reports import Report, agent_row, node_row, payload_fields, payload_text, table

__all__ = ["Commands"]

REQUEST_TIMEOUT_S = 5.0  # somebody sits in front of it
DELIVERY_TIMEOUT_S = 5.0
DRAIN_TIMEOUT_S = 10.0  # no other command runs meanwhile; it can be given again


class Commands:
    """Runs typed lines on behalf of the node's own agent. ``stop`` is what ``quit`` calls."""

    def __init__(self, network: AgentNetwork, agent: Agent, stop: Callable[[], None]) -> None:
        self._network = network
        self._agent = agent
        self._stop = stop
        self._table: dict[str, Callable[[Command], Awaitable[Report]]] = {
            "members": self._members,
            "agents": self._agents,
            "send": self._send,
            "request": self._request,
            "join": self._join,
            "leave": self._leave,
            "say": self._say,
            "invite": self._invite,
            "maintenance": self._maintenance,
            "drain": self._drain,
            "help": self._help,
            "quit": self._quit,
        }

    async def run(self, line: str) -> Report | None:
        """Do what the line says; None for an empty one."""
        try:
            command = parse_command(line)
            return await self._table[command.name](command) if command is not None else None
        except NetworkError as error:
            return Report("error", [f"! {error}"], {"command": line, "error": type(error).__name__, "text": str(error)})

    async def _members(self, _command: Command) -> Report:
        nodes = self._network.registry.nodes()
        return _result("members", table([node_row(node) for node in nodes]), nodes=msgspec.to_builtins(nodes))

    async def _agents(self, _command: Command) -> Report:
        agents = self._network.registry.agents()
        return _result("agents", table([agent_row(agent) for agent in agents]), agents=msgspec.to_builtins(agents))

    async def _send(self, command: Command) -> Report:
        receipt = await self._agent.send(parse_destination(command.target), command.text.encode())
        await receipt.delivered(DELIVERY_TIMEOUT_S)
        return _result("send", [f"delivered to {command.target}"], to=command.target, message_id=receipt.message_id)

    async def _request(self, command: Command) -> Report:
        destination = parse_destination(command.target)
        answer = await self._agent.request(destination, command.text.encode(), timeout_s=REQUEST_TIMEOUT_S)
        line = f"{answer.from_agent} on {answer.sender_node or 'this node'} answers: {payload_text(answer.payload)}"
        sender = {"from_agent": answer.from_agent, "from_node": answer.sender_node}
        return _result("request", [line], **sender, **payload_fields(answer.payload))

    async def _join(self, command: Command) -> Report:
        await self._agent.join_group(command.target)
        return _result("join", [f"listening to #{command.target}"], group=command.target)

    async def _leave(self, command: Command) -> Report:
        await self._agent.leave_group(command.target)
        return _result("leave", [f"no longer listening to #{command.target}"], group=command.target)

    async def _say(self, command: Command) -> Report:
        payload = command.text.encode()
        if command.target:
            receipt = await self._agent.publish(command.target, payload)
            line = f"said to #{command.target}"
        else:
            receipt = await self._agent.broadcast(payload)
            line = "said to every agent"
        return _result("say", [line], group=command.target or None, message_id=receipt.message_id)

    async def _invite(self, _command: Command) -> Report:
        join = self._network.invite(INVITATION_S)
        return _result("invite", next_machine(join), join=join, valid_s=INVITATION_S)

    async def _maintenance(self, command: Command) -> Report:
        is_on = command.text == "on"
        self._network.set_maintenance(is_on)
        line = "in maintenance: no new work by capability" if is_on else "out of maintenance"
        return _result("maintenance", [line], on=is_on)

    async def _drain(self, _command: Command) -> Report:
        left = await self._network.drain(DRAIN_TIMEOUT_S)
        counts: dict[str, int] = msgspec.to_builtins(left)
        rest = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        line = (
            f"in maintenance; still here after {DRAIN_TIMEOUT_S:g} s: {rest}"
            if left
            else "drained: nothing is left to do"
        )
        return _result("drain", [line], drained=not left, **counts)

    async def _help(self, _command: Command) -> Report:
        return _result("help", help_lines(), commands=help_lines())

    async def _quit(self, _command: Command) -> Report:
        self._stop()
        return _result("quit", ["leaving the mesh"])


def _result(name: str, lines: list[str], **fields: object) -> Report:
    return Report("result", lines, {"command": name, **fields})

"""``zmesh-node``: a node of the mesh as a program, useful without a single argument.

docs/zmesh-node.md describes it to its users: settings, prompt, JSON events, exit codes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import zmesh
from zmesh import Agent, AgentNetwork, NetworkConfig, NetworkError
from zmesh.tools.agents import Offer, echo_offer, load_offer, offered
from zmesh.tools.banner import INVITATION_S, banner
from zmesh.tools.commands import Commands
from zmesh.tools.console import Console, logging_to
from zmesh.tools.enrolling import enrolling_report
from zmesh.tools.keyboard import Lines, is_interactive, piped_lines, typed_lines
from zmesh.tools.options import NODE_SETTINGS, NodeChoice, choose, local_addresses
from zmesh.tools.outcome import ExitCode, output_lost, run_program
from zmesh.tools.reports import Report, incident_report, message_report, registry_report
from zmesh.tools.settings import Parser, add_flags
from zmesh.tools.stopping import StopRequest, stop_on_signals

__all__ = ["main"]

PROMPT = "zmesh> "

_DESCRIPTION = """\
Run a node of a mesh of agents. Without an argument it names itself, joins the mesh it finds, or founds one, and
offers an agent with the capability 'echo'. On a terminal it takes commands: type 'help'."""

_EPILOG = """\
Each setting is given by its flag, or by the environment variable, or by the key in the TOML file of --config that
stand behind it in brackets; the flag wins over the variable, and that over the file. In a variable, the parts of a
list are separated by commas; a switch is 1 or 0.

With --json, commands are read from standard input, one a line.
SIGINT (Ctrl-C) and SIGTERM leave the mesh and stop; a second SIGINT stops at once.

exit codes: 0 stopped when asked to; 1 failed while running; 2 wrong usage, configuration or key directory;
3 the join string or this node's certificate was refused; 130 stopped by a second SIGINT."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``zmesh-node``; ``argv`` is without the program's name. Returns the exit code."""
    return run_program("zmesh-node", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="zmesh-node", description=_DESCRIPTION, epilog=_EPILOG)
    add_flags(parser, NODE_SETTINGS)
    choice = choose(NodeChoice, NODE_SETTINGS, parser.parse_args(argv))
    config = choice.network_config()
    with stop_on_signals() as stop:
        offers = [load_offer(spec) for spec in choice.agent]
        console = Console(sys.stdout, as_json=choice.json, lost=lambda _: stop.set())
        with logging_to(console, choice.log_level):
            zmesh.run(_run(config, offers, console, stop))
    if console.loss is not None:
        output_lost(console.loss)
    return ExitCode.OK


async def _run(config: NetworkConfig, offers: Sequence[Offer], console: Console, stop: StopRequest) -> None:
    stop.attach()
    await _Node(AgentNetwork(config), console, stop).run(offers)


class _Node:
    """The node from joining to leaving."""

    def __init__(self, network: AgentNetwork, console: Console, stop: StopRequest) -> None:
        self._network = network
        self._console = console
        self._stop = stop

    async def run(self, offers: Sequence[Offer]) -> None:
        """Join, serve until asked to stop, leave."""
        try:
            await self._stop.unless_set(self._join())
            if not self._stop.is_set:
                await self._serve(offers)
        finally:
            await self._network.leave_network()
        self._console.report(Report("left", ["left the mesh"]))

    async def _join(self) -> None:
        config = self._network.config
        if report := await asyncio.to_thread(enrolling_report, config):
            self._console.report(report)
        await self._network.join_network(local_addresses(config))

    async def _serve(self, offers: Sequence[Offer]) -> None:
        echo = echo_offer(lambda message: self._console.report(message_report(message)))
        async with contextlib.AsyncExitStack() as stack:
            agents = [await stack.enter_async_context(offered(self._network, offer)) for offer in (echo, *offers)]
            self._say_hello(agents)
            lines = stack.enter_context(self._input())
            await self._until_stopped(self._watch(), self._watch_incidents(), self._obey(lines, agents[0]))

    def _say_hello(self, agents: Sequence[Agent]) -> None:
        info = self._network.info()
        self._console.report(banner(info, agents, self._invitation() if info.has_authority else None))

    def _invitation(self) -> str | None:
        try:
            return self._network.invite(INVITATION_S)
        except NetworkError as error:  # too many are open, for one: no reason not to run
            self._console.report(Report("error", [f"! no join string: {error}"], {"text": str(error)}))
            return None

    async def _until_stopped(self, *works: Coroutine[Any, Any, None]) -> None:
        """Run the works until asked to stop; the first failure among them ends all, and is raised."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work) for work in works]
                await self._stop.wait()
                for task in tasks:
                    task.cancel()
        except* NetworkError as failures:
            raise failures.exceptions[0] from None

    async def _watch(self) -> None:
        async for event in self._network.registry.watch():
            if report := registry_report(event):
                self._console.report(report)

    async def _watch_incidents(self) -> None:
        async for incident in self._network.incidents():
            self._console.report(incident_report(incident))

    @contextlib.contextmanager
    def _input(self) -> Iterator[Lines]:
        if is_interactive(sys.stdin, sys.stdout) and not self._console.as_json:
            with typed_lines(sys.stdin.fileno(), self._console, PROMPT) as lines:
                yield lines
        elif self._console.as_json:
            with piped_lines(sys.stdin.fileno()) as lines:
                yield lines
        else:
            yield asyncio.Queue()  # standard input may belong to the script that started us

    async def _obey(self, lines: Lines, agent: Agent) -> None:
        commands = Commands(self._network, agent, self._stop.set)
        while True:
            if report := await commands.run(await lines.get()):
                self._console.report(report)


if __name__ == "__main__":
    sys.exit(main())

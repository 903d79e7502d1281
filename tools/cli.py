"""``zmesh``: make a mesh, invite machines to it, look at it, and talk to its agents from a shell.

docs/zmesh-cli.md describes it to its users: commands, output, exit codes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import zmesh
from zmesh import Capability, ConfigurationError, KeystoreError, UsageError
from zmesh.address import parse_peer_address
from zmesh.model import now_ms
from zmesh.security import Keystore
from zmesh.tools.client import Client, joined
from zmesh.tools.console import Console, logging_to
from zmesh.tools.options import CLIENT_SETTINGS, ClientChoice, choose, local_addresses
from zmesh.tools.outcome import ExitCode, output_lost, run_program
from zmesh.tools.prompt import parse_destination
from zmesh.tools.reports import Report
from zmesh.tools.settings import Kind, Parser, add_flags, positive
from zmesh.tools.stopping import StopRequest, stop_on_signals

__all__ = ["main"]

Arguments = argparse.Namespace
Action = Callable[[Client, Arguments], Coroutine[Any, Any, None]]

DEFAULT_MESH = "default"
DEFAULT_VALID_S = 3600
MAX_DIGITS = 20  # of a number to count to; int() itself refuses more than 4,300 with an error of its own

_EPILOG = """\
Each setting is given by its flag, or by the environment variable, or by the key in the TOML file of --config that
stand behind it in brackets; the flag wins over the variable, and that over the file.

exit codes: 0 done; 1 failed, for example because no answer came in time; 2 wrong usage, configuration or key
directory; 3 refused by the mesh; 4 no node answered, or no such agent; 130 interrupted."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``zmesh``; ``argv`` is without the program's name. Returns the exit code."""
    return run_program("zmesh", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    choice = choose(ClientChoice, CLIENT_SETTINGS, arguments)
    console = Console(sys.stdout, as_json=choice.json, lost=output_lost)
    if arguments.command in _ON_DISK:
        console.report(_ON_DISK[arguments.command](choice, arguments))
        return ExitCode.OK
    if "text" in arguments:
        arguments.payload = _payload(arguments.text)  # before joining: nobody should wait for whoever is still typing
    with logging_to(console, choice.log_level), stop_on_signals() as stop:
        return zmesh.run(_on_mesh(choice, console, arguments, stop))


async def _on_mesh(choice: ClientChoice, console: Console, arguments: Arguments, stop: StopRequest) -> int:
    async def act() -> int:
        async with joined(choice.network_config(), choice.timeout) as network:
            await _ON_MESH[arguments.command](Client(network, console, choice.timeout), arguments)
        return ExitCode.OK

    stop.attach()
    code = await stop.unless_set(act())
    if code is not None:
        return code
    # To stop 'listen' is how it ends; the other commands have not done what they were asked to.
    return ExitCode.OK if arguments.command == "listen" else ExitCode.INTERRUPTED


def _init(choice: ClientChoice, _arguments: Arguments) -> Report:
    config = choice.network_config()
    mesh = config.mesh or DEFAULT_MESH  # not config.mesh_name, which is the mesh that is there already
    keystore = Keystore(config.home, mesh)
    keystore.found(now_ms())
    mesh_id = keystore.mesh_id()
    lines = [
        f"founded the mesh {mesh!r} (id {mesh_id}); its keys are in {config.home / mesh}",
        "next: start 'zmesh-node', and run 'zmesh invite' for each further machine",
    ]
    return Report("founded", lines, {"mesh": mesh, "mesh_id": mesh_id, "directory": str(config.home / mesh)})


def _invite(choice: ClientChoice, arguments: Arguments) -> Report:
    config = choice.network_config()
    authority = Keystore(config.home, config.mesh_name).authority()
    addresses = arguments.address or local_addresses(config)
    if not addresses:
        raise KeystoreError("no node runs here for the new machine to ask: start 'zmesh-node', or give its --address")
    join = authority.create_invitation(now_ms(), int(arguments.valid * 1000), addresses)
    return Report("invitation", [join], {"join": join, "valid_s": arguments.valid, "addresses": list(addresses)})


async def _members(client: Client, _arguments: Arguments) -> None:
    await client.members()


async def _agents(client: Client, arguments: Arguments) -> None:
    await client.agents(arguments.capability)


async def _send(client: Client, arguments: Arguments) -> None:
    await client.send(arguments.to, arguments.payload)


async def _request(client: Client, arguments: Arguments) -> None:
    await client.request(arguments.to, arguments.payload)


async def _listen(client: Client, arguments: Arguments) -> None:
    await client.listen(arguments.group, arguments.id, arguments.count)


_ON_DISK: dict[str, Callable[[ClientChoice, Arguments], Report]] = {"init": _init, "invite": _invite}
_ON_MESH: dict[str, Action] = {
    "members": _members,
    "agents": _agents,
    "send": _send,
    "request": _request,
    "listen": _listen,
}


def _payload(text: str) -> bytes:
    # surrogateescape gives back the very bytes of an argument that was not UTF-8
    return sys.stdin.buffer.read() if text == "-" else text.encode(errors="surrogateescape")


def _parser() -> Parser:
    parser = Parser(prog="zmesh", description="Make, look at and talk to a mesh of agents.", epilog=_EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> Parser:
        added = commands.add_parser(name, help=text, description=text, epilog=_EPILOG)
        add_flags(added, CLIENT_SETTINGS)
        return added

    command("init", "make the authority of a new mesh on this machine")
    invite = command("invite", "print a join string, good once, for 'zmesh-node --join' on the next machine")
    invite.add_argument("--valid", type=_seconds, default=DEFAULT_VALID_S, metavar="SECONDS", help="default: 3600")
    invite.add_argument(
        "--address",
        action="append",
        type=_address,
        metavar="tcp://HOST:PORT",
        help="where to ask; may be repeated (default: this machine's nodes)",
    )
    command("members", "list the nodes of the mesh")
    agents = command("agents", "list the agents of the mesh")
    agents.add_argument("--capability", metavar="NAME", help="only those with this capability")
    _add_message_arguments(command("send", "send a message to an agent and wait until it was taken in"))
    _add_message_arguments(command("request", "send a request to an agent and print the answer"))
    listen = command("listen", "print broadcasts and messages until interrupted")
    listen.add_argument("--group", action="append", default=[], metavar="NAME", help="also this group's; repeatable")
    listen.add_argument("--id", type=_agent_id, metavar="AGENT", help="the agent id to listen as (default: made up)")
    listen.add_argument("--count", type=_count, metavar="N", help="stop after N messages")
    return parser


def _add_message_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("to", type=_destination, metavar="TO", help="an agent's id, or a capability")
    parser.add_argument("text", metavar="TEXT", help="the payload; - reads it from standard input")


def _seconds(text: str) -> float:
    try:
        return positive(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {Kind.SECONDS.value}") from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < MAX_DIGITS and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _agent_id(text: str) -> int:
    to = _destination(text)
    if not isinstance(to, int):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2**64 - 1")
    return to


def _destination(text: str) -> int | Capability:
    try:
        return parse_destination(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _address(text: str) -> str:
    try:
        parse_peer_address(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


if __name__ == "__main__":
    sys.exit(main())

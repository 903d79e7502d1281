"""The prompt's commands: one table that parses them, explains them and finds the one a typing error meant.

``say hello`` broadcasts and ``say #lab hello`` publishes to a group. The ``#`` is there because without it nothing
could tell a group from the first word of a sentence.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from zmesh import Capability, UsageError
from zmesh.model import is_agent_id
from zmesh.tools.settings import nearest

__all__ = ["Command", "help_lines", "parse_command", "parse_destination"]


MAX_ID_DIGITS = len(str(2**64))


class Needs(enum.Enum):
    """What follows a command's name."""

    NOTHING = ""
    GROUP = "GROUP"
    SWITCH = "on|off"
    WORDS = "TEXT"
    DESTINATION = "TO TEXT"


@dataclass(frozen=True, slots=True)
class Command:
    """One parsed command: ``target`` is the agent, capability or group, ``text`` what to tell it, or on or off."""

    name: str
    target: str = ""
    text: str = ""


_COMMANDS: dict[str, tuple[Needs, str]] = {
    "members": (Needs.NOTHING, "the nodes of the mesh"),
    "agents": (Needs.NOTHING, "the agents on them"),
    "send": (Needs.DESTINATION, "a message to an agent, by id or capability: send 9 hello"),
    "request": (Needs.DESTINATION, "the same, and show the answer: request echo hi"),
    "join": (Needs.GROUP, "listen to a group: join lab"),
    "leave": (Needs.GROUP, "stop listening to it"),
    "say": (Needs.WORDS, "to every agent: say hello; to a group: say #lab hello"),
    "invite": (Needs.NOTHING, "a join string for the next machine"),
    "maintenance": (Needs.SWITCH, "whether to ask for no new work: maintenance on"),
    "drain": (Needs.NOTHING, "the same, and wait until the work that is here is done"),
    "help": (Needs.NOTHING, "this list"),
    "quit": (Needs.NOTHING, "leave the mesh and stop"),
}


def parse_command(line: str) -> Command | None:
    """A typed line as a command; None for an empty one. Raises ``UsageError`` with one sentence."""
    name, _, rest = line.strip().partition(" ")
    if not name:
        return None
    if name not in _COMMANDS:
        raise UsageError(f"unknown command {name!r}{nearest(name, _COMMANDS)}")
    return _with_arguments(name, rest.strip())


def parse_destination(word: str) -> int | Capability:
    """An agent id when it is a number, else a capability. Raises ``UsageError``."""
    if not word:
        raise UsageError("an agent's id or a capability must not be empty")
    if not (word.isascii() and word.isdigit()):
        return Capability(word)
    if len(word) > MAX_ID_DIGITS or not is_agent_id(int(word)):
        raise UsageError(f"agent id {word[:MAX_ID_DIGITS]} is too large: ids go from 0 to 2**64 - 1")
    return int(word)


def help_lines() -> list[str]:
    """One line for each command."""
    usages = {f"{name} {needs.value}".strip(): text for name, (needs, text) in _COMMANDS.items()}
    return [f"{usage:<20}{text}" for usage, text in usages.items()]


def _with_arguments(name: str, rest: str) -> Command:
    match _COMMANDS[name][0]:
        case Needs.NOTHING if not rest:
            return Command(name)
        case Needs.GROUP if rest and " " not in rest:
            return Command(name, target=rest.removeprefix("#"))
        case Needs.SWITCH if rest in ("on", "off"):
            return Command(name, text=rest)
        case Needs.DESTINATION if " " in rest:
            target, _, text = rest.partition(" ")
            return Command(name, target, text.strip())
        case Needs.WORDS if rest and not rest.startswith("#"):
            return Command(name, text=rest)
        case Needs.WORDS if rest.startswith("#") and " " in rest:
            group, _, text = rest.removeprefix("#").partition(" ")
            if group:
                return Command(name, group, text.strip())
    needs, text = _COMMANDS[name]
    raise UsageError(f"usage: {f'{name} {needs.value}'.strip()} ({text})")

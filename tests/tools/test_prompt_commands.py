"""What can be typed at the prompt, and what a typing error gets."""

from __future__ import annotations

import pytest

from zmesh import Capability, UsageError
from zmesh.tools.prompt import Command, help_lines, parse_command, parse_destination


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("members", Command("members")),
        ("  agents  ", Command("agents")),
        ("send 9 hello", Command("send", "9", "hello")),
        ("send 9   hello  there ", Command("send", "9", "hello  there")),
        ("request echo hi", Command("request", "echo", "hi")),
        ("join lab", Command("join", "lab")),
        ("join #lab", Command("join", "lab")),
        ("leave lab", Command("leave", "lab")),
        ("say hello", Command("say", "", "hello")),
        ("say lab is what I say", Command("say", "", "lab is what I say")),
        ("say #lab hello all", Command("say", "lab", "hello all")),
        ("invite", Command("invite")),
        ("maintenance on", Command("maintenance", "", "on")),
        ("maintenance  off ", Command("maintenance", "", "off")),
        ("drain", Command("drain")),
        ("help", Command("help")),
        ("quit", Command("quit")),
    ],
)
def test_a_line_is_a_command(line: str, command: Command) -> None:
    assert parse_command(line) == command


def test_a_group_without_a_name_is_not_everybody() -> None:
    with pytest.raises(UsageError, match="usage: say TEXT"):
        parse_command("say # hello")


@pytest.mark.parametrize("line", ["", "   ", "\t"])
def test_an_empty_line_is_none(line: str) -> None:
    assert parse_command(line) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("membes", "unknown command 'membes'; did you mean 'members'?"),
        ("xyzzy", "unknown command 'xyzzy' (known: agents, drain, help"),
        ("send", "usage: send TO TEXT"),
        ("send 9", "usage: send TO TEXT"),
        ("request echo", "usage: request TO TEXT"),
        ("join", "usage: join GROUP"),
        ("join two words", "usage: join GROUP"),
        ("maintenance", "usage: maintenance on|off"),
        ("maintenance soon", "usage: maintenance on|off"),
        ("drain now", "usage: drain ("),
        ("say", "usage: say TEXT"),
        ("say #lab", "usage: say TEXT"),
        ("members now", "usage: members ("),
    ],
)
def test_a_mistake_says_what_to_type(line: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_command(line)
    assert text in str(caught.value)


def test_a_destination_is_an_id_or_a_capability() -> None:
    assert parse_destination("9") == 9
    assert parse_destination("echo") == Capability("echo")
    assert parse_destination("9a") == Capability("9a")
    assert parse_destination("٣") == Capability("٣")  # a digit that int() would take


def test_help_has_a_line_for_each_command() -> None:
    names = [line.split()[0] for line in help_lines()]
    talk = ["send", "request", "join", "leave", "say"]
    assert names == ["members", "agents", *talk, "invite", "maintenance", "drain", "help", "quit"]

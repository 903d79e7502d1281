"""The prompt, on a real terminal."""

from __future__ import annotations

import re
from pathlib import Path

from tests.tools.programs import node_on_a_terminal, run

PROMPT = "zmesh> "


def test_the_banner_and_a_conversation(tmp_path: Path) -> None:
    with node_on_a_terminal(tmp_path, "--name", "desk") as terminal:
        assert terminal.expect(r"next machine\s+zmesh-node --join zmesh1\.\S+")
        terminal.expect(re.escape(PROMPT))
        terminal.type("request echo grüße\n")
        terminal.expect(r"\d+ on (desk|this node) answers: grüße")
        terminal.type("membres\n")
        terminal.expect("! unknown command 'membres'; did you mean 'members'?")
        terminal.type("members\n")
        terminal.expect(r"desk\s+active\s+this node")
        terminal.type("quit\n")
        terminal.expect("left the mesh")
        assert terminal.wait() == 0
        assert terminal.mode() == terminal.mode_before


def test_an_event_does_not_disturb_what_is_being_typed(tmp_path: Path) -> None:
    with node_on_a_terminal(tmp_path, "--name", "desk") as terminal:
        terminal.expect(re.escape(PROMPT))
        terminal.type("request echo half")
        terminal.expect("request echo half")
        seen = len(terminal.screen)
        assert run("zmesh", "send", "echo", "meanwhile", home=tmp_path).returncode == 0
        # The row is erased, the event written in its place, and the row drawn again below, cursor at its end.
        terminal.expect(r"\r\x1b\[K\d\d:\d\d:\d\d  message from agent \d+ on desk/\S+: meanwhile\r?\n", since=seen)
        terminal.expect(re.escape(f"{PROMPT}request echo half"), since=seen)
        terminal.type(" and half\n")
        terminal.expect("answers: half and half")


def test_what_others_send_cannot_draw_on_the_terminal(tmp_path: Path) -> None:
    with node_on_a_terminal(tmp_path) as terminal:
        terminal.expect(re.escape(PROMPT))
        assert run("zmesh", "send", "echo", "a\x1b[2Jb\nc", home=tmp_path).returncode == 0
        terminal.expect(re.escape(r"a\x1b[2Jb\nc"))
        assert "\x1b[2J" not in terminal.screen


def test_ctrl_d_leaves(tmp_path: Path) -> None:
    with node_on_a_terminal(tmp_path) as terminal:
        terminal.expect(re.escape(PROMPT))
        terminal.type("\x04")
        assert terminal.wait() == 0


def test_ctrl_c_leaves_and_puts_the_terminal_back(tmp_path: Path) -> None:
    with node_on_a_terminal(tmp_path) as terminal:
        terminal.expect(re.escape(PROMPT))
        assert terminal.mode() != terminal.mode_before
        terminal.type("\x03")
        assert terminal.wait() == 0
        assert terminal.mode() == terminal.mode_before


def test_a_second_ctrl_c_puts_the_terminal_back_too(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import asyncio\n"
        "class Agent:\n"
        "    def handle(self, message): ...\n"
        "    async def stop(self):\n"
        "        print('not yet', flush=True)\n"
        "        await asyncio.Event().wait()\n",
        encoding="utf-8",
    )
    with node_on_a_terminal(tmp_path, "--agent", "stubborn:Agent") as terminal:
        terminal.expect(re.escape(PROMPT))
        terminal.type("\x03")
        terminal.expect("not yet")
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert terminal.mode() == terminal.mode_before

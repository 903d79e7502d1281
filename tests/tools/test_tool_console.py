"""Standard output with a row being typed on it, and standard input on its thread; the terminal is a real pty."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
import os
import pty
import re
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from zmesh.tools.console import Console, ConsoleLogHandler, logging_to
from zmesh.tools.keyboard import is_interactive, piped_lines, restore_terminals, typed_lines
from zmesh.tools.lineeditor import LineEditor
from zmesh.tools.reports import Report

REPORT = Report("happened", ["something \x1b[2Jhappened", "indeed"], {"what": "x"})


def never_lost(error: OSError) -> None:
    raise AssertionError("the output is there") from error


def test_a_report_is_lines_for_a_person() -> None:
    out = io.StringIO()
    Console(out, as_json=False, lost=never_lost).report(REPORT)
    assert out.getvalue() == "something \\x1b[2Jhappened\nindeed\n"


def test_what_happens_by_itself_has_the_time_of_day() -> None:
    out = io.StringIO()
    Console(out, as_json=False, lost=never_lost).report(Report("happened", ["indeed"], timed=True))
    assert re.fullmatch(r"\d\d:\d\d:\d\d  indeed\n", out.getvalue())


def test_a_report_is_one_object_a_line_for_a_program() -> None:
    out = io.StringIO()
    console = Console(out, as_json=True, lost=never_lost)
    console.report(REPORT)
    console.report(REPORT)
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert first.pop("time_ms") <= second.pop("time_ms")
    assert first == second == {"event": "happened", "what": "x"}


def test_lines_are_written_above_the_row_being_typed() -> None:
    out = io.StringIO()
    console = Console(out, as_json=False, lost=never_lost)
    editor = LineEditor("> ")
    editor.feed("half a comm")
    console.attach(editor)
    out.truncate(0)
    out.seek(0)
    console.lines(["an event"])
    assert out.getvalue() == "\r\x1b[Kan event\n\r\x1b[K> half a comm"
    console.attach(None)
    assert out.getvalue().endswith("\r\x1b[K")


def test_lines_from_other_threads_are_not_torn() -> None:
    out = io.StringIO()
    console = Console(out, as_json=False, lost=never_lost)
    threads = [threading.Thread(target=console.lines, args=([f"{n}" * 100],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(out.getvalue().split()) == sorted(f"{n}" * 100 for n in range(8))


def test_output_that_nobody_reads_is_noticed_once() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    losses: list[OSError] = []
    with io.TextIOWrapper(io.FileIO(writer, "w"), write_through=True) as out:
        console = Console(out, as_json=False, lost=losses.append)
        console.lines(["x"])
        console.lines(["y"])
    assert [error.errno for error in losses] == [errno.EPIPE]
    assert console.loss is losses[0]


async def _take(lines: asyncio.Queue[str], count: int) -> list[str]:
    async with asyncio.timeout(30):
        return [await lines.get() for _ in range(count)]


def test_a_pipe_is_read_line_by_line() -> None:
    async def read() -> list[str]:
        reader, writer = os.pipe()
        try:
            with piped_lines(reader) as lines:
                os.write(writer, b"one\ntw")
                first = await _take(lines, 1)
                os.write(writer, "ö\nrest".encode())
                os.close(writer)
                return first + await _take(lines, 2)
        finally:
            os.close(reader)

    assert asyncio.run(read()) == ["one", "twö", "rest"]


def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "commands"
    path.write_text("members\nquit\n", encoding="utf-8")

    async def read() -> list[str]:
        with path.open("rb") as file, piped_lines(file.fileno()) as lines:
            return await _take(lines, 2)

    assert asyncio.run(read()) == ["members", "quit"]


def test_an_idle_pipe_is_given_up_at_once() -> None:
    async def read() -> None:
        reader, writer = os.pipe()
        with piped_lines(reader):
            pass
        os.close(reader)
        os.close(writer)

    asyncio.run(read())  # the fixture that looks for threads left over is the judge


@pytest.fixture
def terminal() -> Iterator[tuple[int, io.TextIOWrapper]]:
    """The user's end of a terminal, and the program's."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "r+b", buffering=0) as raw, io.TextIOWrapper(raw, write_through=True) as program:
        yield master, program
    os.close(master)


def test_a_typed_line_arrives_and_the_mode_is_put_back(terminal: tuple[int, io.TextIOWrapper]) -> None:
    master, program = terminal
    before = termios.tcgetattr(program.fileno())

    async def session() -> list[str]:
        console = Console(program, as_json=False, lost=never_lost)
        with typed_lines(program.fileno(), console, "> ") as lines:
            os.write(master, b"send 9 helo\x7flo\n\x04")
            return await _take(lines, 2)

    assert asyncio.run(session()) == ["send 9 hello", "quit"]
    assert termios.tcgetattr(program.fileno()) == before
    restore_terminals()  # nothing is left to restore, and that is fine


def test_a_terminal_that_is_not_ours_to_control_is_no_prompt(terminal: tuple[int, io.TextIOWrapper]) -> None:
    _, program = terminal
    assert program.isatty()
    assert not is_interactive(program, program)
    assert not is_interactive(io.StringIO(), io.StringIO())


def test_a_library_that_sets_its_own_level_is_held_to_ours(capsys: pytest.CaptureFixture[str]) -> None:
    chatty = logging.getLogger("a_chatty_library")
    chatty.setLevel(logging.DEBUG)
    with logging_to(Console(io.StringIO(), as_json=False, lost=never_lost), "error"):
        chatty.warning("not wanted")
        chatty.error("wanted")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["ERROR a_chatty_library: wanted"]


def test_a_log_record_does_not_tear_the_row_being_typed() -> None:
    out = io.StringIO()
    console = Console(out, as_json=False, lost=never_lost)
    console.attach(LineEditor("> "))
    record = logging.LogRecord("zmesh", logging.ERROR, __file__, 1, "first\nsecond", None, None)
    ConsoleLogHandler(console).emit(record)
    assert out.getvalue().endswith("\r\x1b[Kfirst\nsecond\n\r\x1b[K> ")

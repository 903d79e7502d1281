"""Running ``zmesh-node`` and ``zmesh`` as real processes, on pipes or on a real terminal.

Everything waits for a condition, with ``PATIENCE_S`` as the bound of a test that has failed.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

PATIENCE_S = 30.0
ROOT = Path(__file__).parents[2]
Event = dict[str, Any]

_bases = itertools.count(20000 + os.getpid() % 1000 * 20, 4)


def free_port() -> int:
    """The first of four consecutive ports that nobody has now; never the same twice."""
    for base in _bases:
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + 4):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise AssertionError("no free ports")


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a process of this home: the project to import, and none of the developer's own settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("ZMESH_")}
    return (
        own | {"PYTHONPATH": str(ROOT), "ZMESH_HOME": str(home), "ZMESH_MDNS": "0", "TERM": "xterm"} | {**(more or {})}
    )


def command(program: str, *arguments: str) -> list[str]:
    """The command line of ``zmesh-node`` or ``zmesh``."""
    module = {"zmesh-node": "zmesh.tools.node", "zmesh": "zmesh.tools.cli"}[program]
    return [sys.executable, "-m", module, *arguments]


def run(program: str, *arguments: str, home: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end."""
    return subprocess.run(
        command(program, *arguments),
        env=environment(home),
        cwd=home,
        input=stdin,
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )


class Program:
    """A running program with JSON events, or plain lines, on standard output, and commands on standard input."""

    def __init__(self, arguments: list[str], *, home: Path, more: Mapping[str, str] | None = None) -> None:
        self.events: list[Event] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            arguments,
            env=environment(home, more),
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._errors: list[str] = []
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self.wait()

    def type(self, line: str) -> Event:
        """Give it a command and return the result, or the error."""
        seen = len(self.events)
        self.write(line)
        return self.expect(lambda event: event["event"] in ("result", "error"), since=seen)

    def write(self, line: str) -> None:
        """Give it a line on standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def write_until(self, line: str, heard_by: Program, part: str) -> None:
        """Give it the line again and again until the other one prints ``part``.

        For groups alone: somebody who has just been seen to join may still be a moment from being subscribed.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not any(part in event["text"] for event in heard_by.events if event["event"] == "line"):
            assert time.monotonic() < deadline, f"{line!r} is not heard among {heard_by.events}"
            self.write(line)
            with heard_by._news:
                heard_by._news.wait(1.0)

    def expect(self, wanted: Callable[[Event], bool], since: int = 0) -> Event:
        """The first such event, when it is there."""

        def found() -> Event | None:
            return next((event for event in self.events[since:] if wanted(event)), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._has_ended(), PATIENCE_S)
        event = found()
        assert event is not None, f"no such event among {self.events}; standard error: {''.join(self._errors)}"
        return event

    def event(self, name: str, **fields: object) -> Event:
        """The first event of this name with these fields, when it is there."""
        return self.expect(lambda event: event["event"] == name and fields.items() <= event.items())

    def line(self, part: str) -> str:
        """The first plain line with this in it, when it is there."""
        return str(self.expect(lambda event: event["event"] == "line" and part in event["text"])["text"])

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(signum)

    def wait_until_it_reads(self) -> None:
        """Wait until it waits for standard input, which the kernel tells: in a `read` of descriptor 0."""
        call = Path(f"/proc/{self._process.pid}/syscall")
        deadline = time.monotonic() + PATIENCE_S
        while call.read_text(encoding="ascii").split()[:2] not in (["0", "0x0"], ["63", "0x0"]):  # x86-64, arm64
            assert time.monotonic() < deadline, "it does not read"
            time.sleep(0.005)

    def interrupt_until_it_ends(self) -> int:
        """Ctrl-C, again and again, as people do. Returns the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(0.05)
        raise AssertionError("it does not end")

    def wait(self) -> tuple[int, str]:
        """The exit code and what was written to standard error."""
        code = self._process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):  # a command that the program did not live to read
                stream.close()
        return code, "".join(self._errors)

    def _has_ended(self) -> bool:
        return not self._readers[0].is_alive()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.events.append(
                    json.loads(line) if line.startswith("{") else {"event": "line", "text": line.strip()}
                )
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)


def start_node(home: Path, *arguments: str, more: Mapping[str, str] | None = None) -> Program:
    """A ``zmesh-node --json`` on the loopback interface."""
    listen = () if "--listen" in arguments else ("--listen", f"tcp://127.0.0.1:{free_port()}")
    return Program(command("zmesh-node", "--json", *listen, *arguments), home=home, more=more)


class Terminal:
    """A program on a real terminal, whose user we are."""

    def __init__(self, arguments: list[str], *, home: Path) -> None:
        self.screen = ""
        self._master, self._slave = pty.openpty()
        self.mode_before = termios.tcgetattr(self._slave)
        self._process = subprocess.Popen(
            arguments,
            env=environment(home),
            cwd=home,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def expect(self, pattern: str, since: int = 0) -> re.Match[str]:
        """Read the screen until the pattern is on it, after position ``since``."""
        deadline = time.monotonic() + PATIENCE_S
        while not (match := re.compile(pattern).search(self.screen, since)):
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} does not appear on the screen: {self.screen!r}"
            self.screen += os.read(self._master, 65536).decode(errors="replace")
        return match

    def wait(self) -> int:
        """The exit code."""
        return self._process.wait(PATIENCE_S)

    def mode(self) -> list[Any]:
        """The terminal's mode now."""
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        """End the program, and the terminal."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self._slave)
        os.close(self._master)


@contextlib.contextmanager
def node_on_a_terminal(home: Path, *arguments: str) -> Iterator[Terminal]:
    """A ``zmesh-node`` that somebody sits in front of."""
    listen = ("--listen", f"tcp://127.0.0.1:{free_port()}")
    terminal = Terminal(command("zmesh-node", *listen, *arguments), home=home)
    try:
        yield terminal
    finally:
        terminal.close()

"""Runs the two sides of a benchmark as two processes and carries what they say.

A script starts itself again for each side, with the hidden arguments ``--role JOB``. A side and the script talk in
lines of JSON over the side's standard input and output, so the network carries nothing but the messages measured.
Clocks: ``time.monotonic_ns`` is one clock for all processes of a machine, so a time taken at the sender can be
subtracted from one taken at the receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

__all__ = [
    "RUN_S",
    "STALL_S",
    "Channel",
    "Job",
    "Process",
    "Role",
    "Stopwatch",
    "Values",
    "done_or_stalled",
    "latency_values",
    "loop_names",
    "play_role",
    "run_on_loop",
    "run_script",
]

STALL_S = 15.0  # no message for this long: the rest is counted as lost and the run ends
RUN_S = 120.0  # a side has this long for what is measured
START_S = 60.0  # a side has this long to start, connect and warm up; machines under test are often busy
ROLE_FLAG = "--role"

Values = Mapping[str, float | str]
T = TypeVar("T")


class SideFailed(Exception):
    """A side of a benchmark ended or fell silent before it had said what it was asked."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one side of one run is told to do."""

    role: str
    count: int  # messages or requests that are measured
    size: int  # payload bytes; warm-up messages are one byte shorter, which is how a receiver tells them apart
    warmup: int  # messages or requests before the clock starts
    in_flight: int = 1  # requests open at a time
    subscribers: int = 0
    number: int = 0  # which of the subscribers
    pattern: str = ""
    curve: bool = False
    loop: str = ""  # "uvloop", "asyncio", or "" for a side without an event loop
    home: str = ""  # directory of keys that both zmesh sides share
    address: str = ""  # where the other side listens
    server_key: str = ""

    def at_home(self, home: str) -> Job:
        """The same job with the directory of keys that both sides share."""
        return replace(self, home=home)

    def numbered(self, number: int) -> Job:
        """The same job for one of several alike sides."""
        return replace(self, number=number)

    def shares(self, count: int) -> list[int]:
        """``count`` requests dealt out to ``in_flight`` tasks."""
        each, rest = divmod(count, self.in_flight)
        return [each + (index < rest) for index in range(self.in_flight)]

    def towards(self, peer: Values) -> Job:
        """The same job for the side that connects to what ``peer`` announced."""
        return replace(self, address=str(peer["address"]), server_key=str(peer.get("server_key", "")))


class Channel:
    """A side's line to the script that started it. What the side prints goes to standard error: only JSON goes here."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def tell(self, **values: float | str) -> None:
        """Send one line to the script."""
        self._out.write(json.dumps(values) + "\n")

    def wait(self) -> None:
        """Block until the script says to go on. Ends the process if the script is gone."""
        if not sys.stdin.readline():
            raise SystemExit("the benchmark script that started this side is gone")

    def told_within(self, seconds: float) -> bool:
        """Whether the script says to go on within ``seconds``; takes the line if so."""
        ready = bool(select.select([sys.stdin], [], [], seconds)[0])
        if ready:
            self.wait()
        return ready

    async def wait_async(self) -> None:
        """``wait`` without holding up the event loop."""
        await asyncio.get_running_loop().run_in_executor(None, self.wait)


Role = Callable[[Channel, Job], None]


class Process:
    """The script's end of one side. A context manager: on leaving, the side is told to end, then made to."""

    def __init__(self, job: Job) -> None:
        self._role = job.role
        self._buffer = b""
        self._child = subprocess.Popen(
            [sys.executable, sys.argv[0], ROLE_FLAG, json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def ask(self, timeout_s: float = START_S) -> dict[str, Any]:
        """The next line the side says. Raises ``SideFailed`` if it ends, or says nothing in time."""
        output = self._child.stdout
        assert output is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise SideFailed(f"{self._role} said nothing for {timeout_s:.0f} s")
            chunk = output.read(65536)
            if not chunk:
                raise SideFailed(f"{self._role} ended early with exit code {self._child.wait()}")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        values: dict[str, Any] = json.loads(line)
        return values

    def tell(self) -> None:
        """Let a side that waits go on."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(b"go\n")
        except BrokenPipeError:
            raise SideFailed(f"{self._role} ended early with exit code {self._child.wait()}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        try:
            self._child.wait(timeout=10 if error is None else 0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()


class Stopwatch:
    """Wall time and CPU time of this process from construction on."""

    def __init__(self) -> None:
        self.started_ns = time.monotonic_ns()
        self._cpu_started_ns = time.process_time_ns()
        self._thread_started_ns = time.thread_time_ns()

    def values(self) -> dict[str, float]:
        """CPU time so far: as a percentage of one core, of all threads, and of the calling thread."""
        cpu_ns = time.process_time_ns() - self._cpu_started_ns
        thread_cpu_ns = time.thread_time_ns() - self._thread_started_ns
        percent = 100.0 * cpu_ns / (time.monotonic_ns() - self.started_ns)
        return {"cpu_percent": percent, "cpu_ns": cpu_ns, "thread_cpu_ns": thread_cpu_ns}


def run_script(main: Callable[[list[str]], int]) -> NoReturn:
    """Run a benchmark script and end the process. A side that failed has printed why, so here a sentence is enough."""
    try:
        sys.exit(main(sys.argv[1:]))
    except SideFailed as error:
        sys.exit(f"{sys.argv[0]}: {error}")


def play_role(argv: list[str], roles: Mapping[str, Role]) -> bool:
    """Play a side and return True when ``argv`` is that of a side; return False in the script itself."""
    if argv[:1] != [ROLE_FLAG]:
        return False
    job = Job(**json.loads(argv[1]))
    roles[job.role](Channel(), job)
    return True


async def done_or_stalled(done: asyncio.Event, progress: Callable[[], int]) -> None:
    """Wait until ``done`` is set, or until ``progress`` has stood still for ``STALL_S``."""
    before = -1
    while not done.is_set() and progress() != before:
        before = progress()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), STALL_S)


def latency_values(samples_ns: list[int]) -> dict[str, float]:
    """The percentiles of some round trips, in microseconds."""
    ordered = sorted(samples_ns)
    last = len(ordered) - 1
    return {
        f"{name}_us": ordered[min(last, int(len(ordered) * share))] / 1000
        for name, share in (("p50", 0.50), ("p99", 0.99), ("p999", 0.999))
    }


def loop_names(choice: str | None) -> list[str]:
    """The event loops to measure for ``--loop``: its own name, both, or uvloop where it is installed."""
    installed = importlib.util.find_spec("uvloop") is not None
    if choice == "both":
        return ["uvloop", "asyncio"] if installed else ["asyncio"]
    return [choice or ("uvloop" if installed else "asyncio")]


def run_on_loop(name: str, main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the event loop called ``name``."""
    if name == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)
    with asyncio.Runner() as runner:
        return runner.run(main)

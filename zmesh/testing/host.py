"""A simulated computer with one program on it: its clock, its inputs, and what may happen to it.

The functions at the end are the events of the world's queue that concern a host; they are functions with three
arguments, and not closures, because the queue is the hot path.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from zmesh.errors import check
from zmesh.testing.clocks import Clock
from zmesh.testing.process import Process
from zmesh.testing.randomness import stream

if TYPE_CHECKING:
    from zmesh.testing.network import Link
    from zmesh.testing.world import World

__all__ = ["Host", "deliver"]

NEVER: Final = float("inf")
INBOX_LIMIT: Final = 100_000  # inputs that wait for a paused process; sockets have a high-water mark too
SPIN_LIMIT: Final = 10_000  # timeouts at one instant: a machine whose deadline does not move

_Waiting = tuple[Callable[..., None], Any, Any]


class Host:
    """One computer. ``name`` is its own in the world, ``identity`` what receivers are told, ``address`` where it is."""

    __slots__ = (
        "_armed",
        "_inbox",
        "_paused",
        "_program",
        "_run",
        "_spins",
        "address",
        "busy_s",
        "chance",
        "clock",
        "cost_s",
        "identity",
        "is_open",
        "links",
        "name",
        "number",
        "process",
        "received",
        "sent",
        "sent_bytes",
        "world",
    )

    def __init__(self, world: World, number: int, name: str, program: Callable[[Host], Process]) -> None:
        self.world = world
        self.number = number
        self.name = self.identity = self.address = name
        self.clock = Clock()
        self.process: Process | None = None
        self.links: dict[str, Link] = {}  # by address
        self.chance = stream(world.seed, "network", name).random
        self.is_open = False  # up, and takes inputs at once
        self.cost_s = 0.0  # of computing, for every input: a slow node
        self.busy_s = 0.0  # of this input so far: what is sent now leaves so much later
        self.sent = self.sent_bytes = self.received = 0
        self._program = program
        self._run = 0
        self._armed = NEVER  # the deadline for which the earliest timer stands in the queue
        self._inbox: deque[_Waiting] | None = None  # inputs that wait, while the process is paused or busy
        self._paused = False
        self._spins = (0.0, 0)

    # -- for the process -----------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The monotonic clock."""
        return self.clock.read(self.world.now)

    @property
    def wall_ms(self) -> int:
        """The wall clock, in ms since the epoch."""
        return self.clock.wall_ms(self.world.now)

    def random(self, purpose: str) -> random.Random:
        """A random stream for one purpose of the present run."""
        return stream(self.world.seed, "host", self.name, self._run, purpose)

    def send(self, address: str, message: Any, size: int = 0) -> None:
        """Send to whoever is at ``address``; ``size`` in bytes counts for throttled links and in the statistics."""
        if self.busy_s:
            self.world.push_after(self.busy_s, _send_later, self, self._run, (address, message, size))
        else:
            self.world.network.send(self, address, message, size)

    def after(self, seconds: float, callback: Callable[..., None], *args: Any) -> None:
        """Call back in the same run, when this host's clock is ``seconds`` further and the process runs."""
        self.world.push_after(seconds / self.clock.rate, _call_back, self, self._run, (callback, args))

    def observe(self, observation: Any) -> None:
        """Tell the world's checkers and its trace what has become known here."""
        self.world.observe(self, observation)

    def spend(self, seconds: float) -> None:
        """This input takes ``seconds`` of the process's time, from here on: a sync of a disk, a long computation."""
        self.busy_s += seconds

    # -- for scenarios -------------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether a process is there, paused or not."""
        return self.process is not None

    @property
    def is_paused(self) -> bool:
        """Whether it has been stopped and not resumed."""
        return self._paused

    @property
    def run(self) -> int:
        """How many processes have been started here."""
        return self._run

    def start(self) -> Process:
        """Start the program, for the first time or again."""
        check(self.process is None, f"{self.name} is up already")
        self._run += 1
        self.is_open = True
        self.process = process = self._program(self)
        _input(self, process.start, ())
        return process

    def crash(self) -> None:
        """The process is gone, at once and without a word."""
        self.process = None
        self._inbox = None
        self._armed = NEVER
        self.is_open = self._paused = False
        self.busy_s = 0.0

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """An input that is no message: ``function(now, *args)``, at once or when a pause is over. Lost if down."""
        if self.is_open:
            _input(self, function, args)
        else:
            self.hold(_input, function, args)

    def pause(self) -> None:
        """Stop the process where it stands; inputs wait."""
        if self.process is not None:
            self._inbox = deque() if self._inbox is None else self._inbox
            self._paused = True
            self.is_open = False

    def resume(self) -> None:
        """Let it go on. What waited is worked off; the poll loop looks at its timers or at its sockets first."""
        if not self._paused or self._inbox is None:
            return
        self._paused = False
        self._inbox = inbox = deque(self._inbox)  # another one: what may still work off the old one finds it gone
        if self._armed != NEVER and self.chance() < 0.5:
            inbox.appendleft((_time_out, self._armed, self._run))
        self.world.push_after(0.0, _work_off, self, inbox, None)

    def pause_for(self, seconds: float) -> None:
        """Stop the process for ``seconds`` of true time: a busy handler, a garbage collection, a laptop's lid."""
        if self.process is not None and not self._paused:
            self.pause()
            self.world.push_after(seconds, _resume, self, self._run, None)

    def drift(self, rate: float) -> None:
        """Its clocks run at ``rate`` from now on."""
        self.clock.drift(self.world.now, rate)
        self._armed = NEVER
        self.arm()

    # -- for the world -------------------------------------------------------------------------------------------------

    def hold(self, action: Callable[..., None], first: Any, second: Any) -> None:
        """Keep an input until the process runs again."""
        if self._inbox is None or len(self._inbox) >= INBOX_LIMIT:
            self.world.network.lost += 1
        else:
            self._inbox.append((action, first, second))

    def arm(self) -> None:
        """See that the process is called when its deadline comes."""
        process = self.process
        if process is None:
            return
        deadline = process.next_deadline()
        if deadline is not None and deadline < self._armed:
            self._armed = deadline
            world = self.world
            world.push(max(self.clock.true_time_of(deadline), world.now), _fire, self, deadline, self._run)

    def finish_input(self) -> None:
        """The input may have taken time: then the next ones wait for the process."""
        if self._inbox is not None or self.process is None:
            return  # _work_off sees to it
        busy_s, self.busy_s = self.busy_s + self.cost_s, 0.0
        if busy_s:
            self._inbox = deque()
            self.is_open = False
            self.world.push_after(busy_s, _work_off, self, self._inbox, None)

    def count_spin(self, now: float) -> None:
        """A machine that is due again at once, again and again, would stop the world's clock."""
        at, spins = self._spins
        self._spins = (now, spins + 1 if at == now else 0)
        if spins > SPIN_LIMIT:
            self.world.fail(self, f"its deadline does not move: {SPIN_LIMIT} timeouts at {now}")


# -- events: action(host, first, second) -------------------------------------------------------------------------------


def deliver(host: Host, sender: str, message: Any) -> None:
    """A message arrives."""
    if not host.is_open:
        host.hold(_take_in, sender, message)
        return
    _take_in(host, sender, message)


def _take_in(host: Host, sender: str, message: Any) -> None:
    process = host.process
    if process is None:
        return
    host.received += 1
    process.receive(host.clock.read(host.world.now), sender, message)
    deadline = process.next_deadline()
    if deadline is not None and deadline < host._armed:
        host.arm()
    if host.busy_s or host.cost_s:
        host.finish_input()


def _input(host: Host, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    function(host.now, *args)
    host.arm()
    host.finish_input()


def _fire(host: Host, deadline: float, run: int) -> None:
    if deadline != host._armed or run != host._run:
        return  # another timer took its place
    if not host.is_open:
        host.hold(_time_out, deadline, run)
        return
    _time_out(host, deadline, run)


def _time_out(host: Host, armed: float, run: int) -> None:
    process = host.process
    if process is None or armed != host._armed or run != host._run:
        return
    clock = host.clock
    clock.reached(armed)
    now = clock.read(host.world.now)
    host._armed = NEVER
    deadline = process.next_deadline()
    if deadline is not None and deadline <= now:
        process.handle_timeout(now)
        host.count_spin(now)
    host.arm()
    if host.busy_s or host.cost_s:
        host.finish_input()


def _call_back(host: Host, run: int, call: tuple[Callable[..., None], tuple[Any, ...]]) -> None:
    if run != host._run or host.process is None:
        return
    if not host.is_open:
        host.hold(_call_back_now, run, call)
        return
    _call_back_now(host, run, call)


def _call_back_now(host: Host, _run: int, call: tuple[Callable[..., None], tuple[Any, ...]]) -> None:
    callback, args = call
    callback(*args)
    host.arm()
    host.finish_input()


def _send_later(host: Host, run: int, message: tuple[str, Any, int]) -> None:
    if run == host._run and host.process is not None:
        host.world.network.send(host, *message)


def _resume(host: Host, run: int, _: None) -> None:
    if run == host._run:
        host.resume()


def _work_off(host: Host, inbox: deque[_Waiting], _: None) -> None:
    """One input that waited; the next is an event of its own."""
    if host._inbox is not inbox or host._paused:
        return
    if not inbox:
        host._inbox = None
        host.is_open = True
        return
    action, first, second = inbox.popleft()
    action(host, first, second)
    if host._inbox is inbox:
        busy_s, host.busy_s = host.busy_s + host.cost_s, 0.0
        host.world.push_after(busy_s, _work_off, host, inbox, None)

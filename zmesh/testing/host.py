"""A simulated computer with one program on it: its clock, its inputs, and what may happen to it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from zmesh.errors import UsageError, check
from zmesh.testing.clocks import Clock
from zmesh.testing.disk import Disk
from zmesh.testing.inputs import NEVER, Waiting, call_back, fire, resume, send_later, take_input, time_out, work_off
from zmesh.testing.process import Process
from zmesh.testing.randomness import stream

if TYPE_CHECKING:
    from zmesh.testing.network import Link
    from zmesh.testing.streams import Stream
    from zmesh.testing.world import World

__all__ = ["Host"]

INBOX_LIMIT: Final = 100_000  # inputs that wait for a paused process; sockets have a high-water mark too
SPIN_LIMIT: Final = 10_000  # timeouts at one instant: a machine whose deadline does not move


class Host:
    """One computer. ``name`` is its own in the world, ``identity`` what receivers are told, ``address`` where it is."""

    __slots__ = (
        "_disk",
        "_spins",
        "_timed_out_at",
        "address",
        "armed",
        "busy_s",
        "chance",
        "changed_at",
        "clock",
        "cost_s",
        "has_power",
        "identity",
        "inbox",
        "incarnation",
        "is_open",
        "is_paused",
        "links",
        "name",
        "newer",
        "number",
        "process",
        "program",
        "received",
        "run",
        "sent",
        "sent_bytes",
        "streams",
        "world",
    )

    def __init__(self, world: World, number: int, name: str, program: Callable[[Host], Process]) -> None:
        self.world = world
        self.number = number
        self.name = self.identity = self.address = name
        self.clock = Clock()
        self.process: Process | None = None
        self.links: dict[str, Link] = {}  # by address
        self.streams: list[Stream] = []  # of the present process
        self.chance = stream(world.seed, "network", name).random
        self.is_open = False  # up, and takes inputs at once
        self.incarnation = 0  # the last that ``new_incarnation`` gave
        self.has_power = True  # so that its kernel answers for processes that are gone
        self.cost_s = 0.0  # of computing, for every input: a slow node
        self.busy_s = 0.0  # of this input so far: what is sent now leaves so much later
        self.sent = self.sent_bytes = self.received = 0
        self._disk: Disk | None = None  # made when it is used
        self.program = program  # what the next start starts
        self.newer: Callable[[Host], Process] | None = None  # the next version of it, for the fault `upgrade`
        self.run = 0  # how many processes have been started here
        self.armed = NEVER  # the deadline for which the earliest timer stands in the queue
        self.inbox: deque[Waiting] | None = None  # inputs that wait, while the process is paused or busy
        self.is_paused = False
        self.changed_at = -NEVER  # when it was last ended, started again, or resumed
        self._timed_out_at = -NEVER
        self._spins = 0  # timeouts at that instant

    # -- for the process -----------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The monotonic clock."""
        return self.clock.read(self.world.now)

    @property
    def wall_ms(self) -> int:
        """The wall clock, in ms since the epoch."""
        return self.clock.wall_ms(self.world.now)

    def new_incarnation(self) -> int:
        """The wall clock in ms, but above all that were given before: as a file would keep it."""
        self.incarnation = max(self.wall_ms, self.incarnation + 1)
        return self.incarnation

    def random(self, purpose: str) -> random.Random:
        """A random stream for one purpose of the present run."""
        return stream(self.world.seed, "host", self.name, self.run, purpose)

    def send(self, address: str, message: Any, size: int = 0) -> None:
        """Send to whoever is at ``address``; ``size`` in bytes counts for throttled links and in the statistics."""
        if self.busy_s:
            self.world.push_after(self.busy_s, send_later, self, self.run, ((address,), message, size))
        else:
            self.world.network.send(self, (address,), message, size)

    def send_all(self, addresses: Sequence[str], message: Any, size: int = 0) -> None:
        """Send one message to several, in their order: less work than as many calls of ``send``."""
        if self.busy_s:
            self.world.push_after(self.busy_s, send_later, self, self.run, (addresses, message, size))
        else:
            self.world.network.send(self, addresses, message, size)

    def after(self, seconds: float, callback: Callable[..., None], *args: Any) -> None:
        """Call back in the same run, when this host's clock is ``seconds`` further and the process runs."""
        self.world.push_after(seconds / self.clock.rate, call_back, self, self.run, (callback, args))

    @property
    def disk(self) -> Disk:
        """What outlives the process."""
        if self._disk is None:
            self._disk = Disk(stream(self.world.seed, "disk", self.name), self.spend)
        return self._disk

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
    def troubled_at(self) -> float:
        """When something last was wrong with it or its links, as a checker must know; infinity if something is now."""
        if self.process is None or self.is_paused or self.cost_s:
            return NEVER
        return max(self.changed_at, self.world.network.troubled_at(self.name))

    def start(self) -> Process:
        """Start the program, for the first time or again."""
        check(self.process is None, f"{self.name} is up already")
        if self.run:
            self.changed_at = self.world.now
        self.run += 1
        self.is_open = self.has_power = True
        self.process = process = self.program(self)
        take_input(self, process.start, ())
        return process

    def start_again(self) -> None:
        """Start the program unless it runs."""
        if self.process is None:
            self.start()

    def upgrade(self) -> None:
        """Its process ends; what is started next is the newer version of its program."""
        self.kill()
        if self.newer is None:
            raise UsageError(f"the fault upgrade needs a newer program on {self.name}: give one to World.add")
        self.program = self.newer

    def kill(self) -> None:
        """The process is gone. The kernel closes its connections: its peers learn of it, once they have all it sent."""
        if self.process is not None:
            self.world.network.close_all(self)
            self._end()

    def power_off(self) -> None:
        """The host is gone, at once and without a word; what its disk had not secured is left to chance."""
        if self._disk is not None:
            self._disk.power_off()
        self._end()
        self.has_power = False

    def _end(self) -> None:
        self.changed_at = self.world.now
        if self.process is not None:
            self.process.ended()
        self.process = None
        self.streams = []
        self.inbox = None
        self.armed = NEVER
        self.is_open = self.is_paused = False
        self.busy_s = 0.0

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """An input that is no message: ``function(now, *args)``, at once or when a pause is over. Lost if down."""
        if self.is_open:
            take_input(self, function, args)
        else:
            self.hold(take_input, function, args)

    def pause(self) -> None:
        """Stop the process where it stands; inputs wait."""
        if self.process is not None:
            self.inbox = deque() if self.inbox is None else self.inbox
            self.is_paused = True
            self.is_open = False

    def resume(self) -> None:
        """Let it go on. What waited is worked off; the poll loop looks at its timers or at its sockets first."""
        if not self.is_paused or self.inbox is None:
            return
        self.is_paused = False
        self.changed_at = self.world.now
        self.inbox = inbox = deque(self.inbox)  # another one: what may still work off the old one finds it gone
        if self.armed <= self.now and self.chance() < 0.5:
            inbox.appendleft((time_out, self.armed, self.run))
        self.world.push_after(0.0, work_off, self, inbox, None)

    def pause_for(self, seconds: float) -> None:
        """Stop the process for ``seconds`` of true time: a busy handler, a garbage collection, a laptop's lid."""
        if self.process is not None and not self.is_paused:
            self.pause()
            self.world.push_after(seconds, resume, self, self.run, None)

    def slow_down(self, cost_s: float) -> None:
        """Let every input from now on take so many seconds of the process's time; 0.0: as fast as ever again."""
        self.cost_s = cost_s
        self.changed_at = self.world.now

    def drift(self, rate: float) -> None:
        """Its clocks run at ``rate`` from now on."""
        self.clock.drift(self.world.now, rate)
        self.armed = NEVER
        self.arm()

    # -- for the world -------------------------------------------------------------------------------------------------

    def hold(self, action: Callable[..., None], first: Any, second: Any) -> None:
        """Keep an input until the process runs again."""
        if self.inbox is None or len(self.inbox) >= INBOX_LIMIT:
            self.world.network.lost += 1
        else:
            self.inbox.append((action, first, second))

    def arm(self) -> None:
        """See that the process is called when its deadline comes."""
        process = self.process
        if process is None:
            return
        deadline = process.next_deadline()
        if deadline is not None and deadline < self.armed:
            self.armed = deadline
            world, at = self.world, self.clock.true_time_of(deadline)
            world.push(at if at > world.now else world.now, fire, self, deadline, self.run)

    def finish_input(self) -> None:
        """The input may have taken time: then the next ones wait for the process."""
        if self.inbox is not None or self.process is None:
            return  # work_off sees to it
        busy_s, self.busy_s = self.busy_s + self.cost_s, 0.0
        if busy_s:
            self.inbox = deque()
            self.is_open = False
            self.world.push_after(busy_s, work_off, self, self.inbox, None)

    def count_spin(self, now: float) -> None:
        """A machine that is due again at once, again and again, would stop the world's clock."""
        if now != self._timed_out_at:
            self._timed_out_at, self._spins = now, 0
            return
        self._spins += 1
        if self._spins > SPIN_LIMIT:
            self.world.fail(self, f"its deadline does not move: {SPIN_LIMIT} timeouts at {now}")

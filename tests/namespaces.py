"""Network namespaces as separate machines: real links, real multicast, real link failures, in one process's reach.

``namespaces`` gives a factory; each ``Machine`` it makes has a leg on one shared bridge, with one IPv4 and one IPv6
address, and runs programs inside. Everything is taken down at the end of the test, whatever happened in it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

__all__ = ["Machine", "MachineFactory", "namespaces"]

_numbers = itertools.count()
_IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _ip(*arguments: str) -> None:
    assert _IP is not None
    done = subprocess.run([_IP, *arguments], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Machine:
    """One namespace. ``ipv4`` and ``ipv6`` are its addresses on the shared link, None where it has none."""

    LINK = "mesh0"

    def __init__(self, bridge: str, number: int, *, ipv4: bool, ipv6: bool) -> None:
        self.name = f"{bridge}-{number}"
        self._bridge = bridge
        self._plug = f"{bridge}p{number}"
        self.ipv4 = f"10.97.0.{number}" if ipv4 else None
        self.ipv6 = f"fd97::{number}" if ipv6 else None

    def run_ip(self, *arguments: str) -> None:
        """Run ``ip`` inside."""
        _ip("-n", self.name, *arguments)

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command line that runs ``command`` inside."""
        return [str(_IP), "netns", "exec", self.name, *command]

    def wire(self, other: Machine, link: str, subnet: str) -> None:
        """A cable of its own to another machine: this end gets the address 1 of the /24 ``subnet``, that one 2."""
        self.run_ip("link", "add", link, "type", "veth", "peer", "name", link, "netns", other.name)
        for number, machine in enumerate((self, other), 1):
            machine.run_ip("link", "set", link, "up")
            machine.run_ip("addr", "add", f"{subnet}.{number}/24", "dev", link)

    def start(self, command: Sequence[str], **options: object) -> subprocess.Popen[str]:
        """Start a program inside; ``options`` are those of ``subprocess.Popen``. The caller ends it."""
        return subprocess.Popen(self.inside(command), text=True, **options)  # type: ignore[call-overload,no-any-return]  # passed through

    def attach(self) -> None:
        """Make the link to the bridge; the interface inside stays down until ``link_up``."""
        inside = ("peer", "name", self.LINK, "netns", self.name)
        _ip("-n", self._bridge, "link", "add", self._plug, "type", "veth", *inside)
        self.reconnect()

    def isolate(self) -> None:
        """Cut the machine off beyond its own sight: its link stays up, nothing passes (a switch has failed)."""
        _ip("-n", self._bridge, "link", "set", self._plug, "nomaster")

    def reconnect(self) -> None:
        """Undo ``isolate``."""
        _ip("-n", self._bridge, "link", "set", self._plug, "master", "bridge0", "up")

    def link_down(self) -> None:
        """Take the machine's own interface down."""
        self.run_ip("link", "set", self.LINK, "down")

    def link_up(self) -> None:
        """Take it up again, with the addresses it had (Linux forgets IPv6 ones when a link goes down)."""
        self.run_ip("link", "set", self.LINK, "up")
        if self.ipv4:
            self.run_ip("addr", "replace", f"{self.ipv4}/24", "dev", self.LINK)
        if self.ipv6:
            self.run_ip("addr", "replace", f"{self.ipv6}/64", "dev", self.LINK, "nodad")


MachineFactory = Callable[..., list[Machine]]


def _make_machine(stack: ExitStack, bridge: str, number: int, *, ipv4: bool, ipv6: bool) -> Machine:
    machine = Machine(bridge, number, ipv4=ipv4, ipv6=ipv6)
    _ip("netns", "add", machine.name)
    stack.callback(_ip, "netns", "delete", machine.name)
    machine.attach()
    machine.run_ip("link", "set", "lo", "up")
    machine.link_up()
    return machine


def _make_bridge(stack: ExitStack) -> str:
    """The shared link: a bridge in a namespace of its own, so that nothing of this machine's own network changes."""
    name = f"zm{os.getpid()}x{next(_numbers)}"
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "delete", name)
    # Without snooping a bridge floods multicast at once, as the unmanaged switch of a small network does.
    _ip("-n", name, "link", "add", "bridge0", "type", "bridge", "mcast_snooping", "0", "forward_delay", "0")
    _ip("-n", name, "link", "set", "bridge0", "up")
    return name


def _why_impossible() -> str | None:
    if _IP is None:
        return "the program 'ip' is missing (Debian: apt-get install iproute2)"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    return None


@pytest.fixture
def namespaces() -> Iterator[MachineFactory]:
    """A factory: ``namespaces(2)`` makes two machines on one link; ``ipv4=False`` or ``ipv6=False`` leaves one out."""
    reason = _why_impossible()
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(f"network namespaces cannot be made here: {reason}", pytrace=False)
        pytest.skip(f"no network namespaces: {reason}")
    with ExitStack() as stack:

        def make(count: int, *, ipv4: bool = True, ipv6: bool = True) -> list[Machine]:
            bridge = _make_bridge(stack)
            return [_make_machine(stack, bridge, n, ipv4=ipv4, ipv6=ipv6) for n in range(1, count + 1)]

        yield make

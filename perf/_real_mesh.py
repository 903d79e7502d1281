"""Membership on real sockets: a mesh of control planes in many processes of this machine, all on loopback.

Each node is a control plane with its own context, thread and CURVE sockets (``_real_host.py``); processes host several,
since the interpreter takes memory. Keys and certificates are made, and processes started, before the clock runs.
"""

from __future__ import annotations

import gc
import json
import math
import os
import select
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from _real_host import HOST, serve
from _report import Measured

from zmesh.model import now_ms
from zmesh.security import Identity, Keystore, NodeKeys

__all__ = ["real_idle", "real_join", "real_kill"]

PROCESSES = 200  # at most, that host nodes: many threads of one interpreter hinder each other
VICTIMS = 10
LIMIT_S = 150.0  # for one run: then all processes are killed
SPARE_S = 5.0  # of that, to say that it has taken too long
SETTLE_S = 5.0
IDLE_S = 30.0
DEATH_S = 20.0
GROUP_S = 10.0
GROUP = 8  # processes
ESTABLISHED = "01"
LAST_EPHEMERAL = 32_768  # the ports of servers are below


class OutOfTime(Exception):
    """The run took too long, or a process ended early."""


def identities(directory: Path, names: Sequence[str]) -> list[Identity]:
    """Members of a mesh made for this."""
    keystore = Keystore(directory, "perf")
    keystore.found(now_ms())
    authority = keystore.authority()
    claim = keystore.claim("founder", client=False, now_ms=now_ms())
    made = []
    for name in names:
        keys = NodeKeys.generate()
        certificate = authority.issue(name, keys.curve_public, keys.signing_public, now_ms())
        made.append(
            replace(
                claim.identity,
                node_id=name,
                curve_public=keys.curve_public,
                curve_secret=keys.curve_secret,
                signing_seed=keys.signing_seed,
                certificate=certificate,
            )
        )
    claim.release()
    return made


class HostProcess:
    """The script's end of one process, forked from it, so that it need not start an interpreter."""

    def __init__(self, nodes: Sequence[Identity], preset: str) -> None:
        self.names = [identity.node_id for identity in nodes]
        self._buffer = b""
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _be_host(nodes, preset, commands, answers)
        os.close(commands)
        os.close(answers)

    def tell(self, do: str, **values: object) -> None:
        """Have it do something; its answer is to be heard."""
        os.write(self._commands, json.dumps({"do": do, **values}).encode() + b"\n")

    def hear(self, deadline: float) -> dict[str, Any]:
        """Its answer."""
        while b"\n" not in self._buffer:
            left_s = max(0.0, deadline - time.monotonic())
            chunk = os.read(self._answers, 1 << 16) if select.select([self._answers], [], [], left_s)[0] else b""
            if not chunk:
                raise OutOfTime(f"the process of {self.names[0]} ended early, or the run took too long")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        """SIGKILL."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def close(self) -> None:
        """Free what is left."""
        self.kill()
        os.close(self._commands)
        os.close(self._answers)


def _be_host(nodes: Sequence[Identity], preset: str, commands: int, answers: int) -> NoReturn:
    """The rest of this process's life."""
    status = 1
    try:
        for descriptor in range(3, max(commands, answers) + 1):
            if descriptor not in (commands, answers):
                with suppress(OSError):
                    os.close(descriptor)
        serve(nodes, preset, commands, answers)
        status = 0
    finally:
        os._exit(status)


class RealMesh:
    """All processes. The first node is the one that the others know."""

    def __init__(self, hosts: list[HostProcess]) -> None:
        self.hosts = hosts
        self._deadline = time.monotonic() + LIMIT_S
        self.nodes = sum(len(host.names) for host in hosts)
        self.began_at = self.started_at = 0.0

    def all(self, do: str, hosts: Sequence[HostProcess] | None = None, **values: object) -> list[dict[str, Any]]:
        """Have each do it at the same time."""
        hosts = self.hosts if hosts is None else hosts
        for host in hosts:
            host.tell(do, **values)
        return [host.hear(self._deadline) for host in hosts]

    def start(self, group: int) -> None:
        """Start all nodes, as fast as they start; each ``group`` processes when the first node knows those before."""
        first, *others = self.hosts
        answer = self.all("start", [first], count=1, seeds=[], seed=0)[0]
        self.began_at = answer["began_at"]
        seeds = [(HOST, answer["ports"][0])]
        self.all("start", [first], count=len(first.names), seeds=seeds, seed=1)
        known = len(first.names)
        for at in range(0, len(others), group):
            some = others[at : at + group]
            for number, host in enumerate(some):
                host.tell("start", count=len(host.names), seeds=seeds, seed=2 + at + number)
            self.started_at = max(host.hear(self._deadline)["started_at"] for host in some)
            known += sum(len(host.names) for host in some)
            if known < self.nodes:
                self.all("agree", [first], count=known, timeout_s=GROUP_S)

    def agree(self) -> dict[str, Any]:
        """Wait until all know all, in the same view."""
        answers = self.all("agree", count=self.nodes, timeout_s=self._deadline - time.monotonic() - SPARE_S)
        views = {tuple(view) for answer in answers for view in answer["views"]}
        if len(views) != 1 or any(answer["known"] != [self.nodes] for answer in answers):
            raise OutOfTime(f"no agreement: views {views}, known {[answer['known'] for answer in answers]}")
        return {
            "viewed_at": max(answer["viewed_at"] for answer in answers),
            "told_at": max(answer["told_at"] for answer in answers),
            "sizes": sorted({size for answer in answers for size in answer["sizes"]}),
        }

    def usage(self) -> dict[str, Any]:
        """What all have used together."""
        answers = self.all("usage")
        incidents: dict[str, int] = {}
        for answer in answers:
            for kind, count in answer["incidents"].items():
                incidents[kind] = incidents.get(kind, 0) + count
        sums = {key: sum(answer[key] for answer in answers) for key in ("cpu_s", "pss_kib", "frames_sent", "dials")}
        dead = {name for answer in answers for name in answer["dead"]}
        return {**sums, "at": time.monotonic(), "incidents": incidents, "dead": dead, "lo_bytes": _loopback_bytes()}


@contextmanager
def mesh(nodes: int, preset: str, *, alone: int = 0) -> Iterator[RealMesh]:
    """Processes for so many nodes, of which the last ``alone`` have one each to themselves."""
    with ExitStack() as stack:
        names = [f"node-{number:05}" for number in range(nodes)]
        made = identities(Path(stack.enter_context(tempfile.TemporaryDirectory())), names)
        shared = nodes - alone
        each = math.ceil(shared / PROCESSES)
        parts = [made[at : min(at + each, shared)] for at in range(0, shared, each)]
        parts += [[identity] for identity in made[shared:]]
        hosts: list[HostProcess] = []
        gc.freeze()  # so that the processes share what is here
        for part in parts:
            hosts.append(HostProcess(part, preset))
            stack.callback(hosts[-1].close)
        yield RealMesh(hosts)


def _loopback_bytes() -> int:
    """What has been sent over the loopback interface, with all headers."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return int(rest.split()[8])
    return 0


def _connections() -> int:
    """How many TCP connections are open to servers of this machine."""
    rows = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    fields = [row.split() for row in rows]
    accepted = [row for row in fields if row[3] == ESTABLISHED and int(row[1].rpartition(":")[2], 16) < LAST_EPHEMERAL]
    return len(accepted)


def real_join(nodes: int, preset: str) -> Measured:
    """All start at once, and know one of them."""
    with mesh(nodes, preset) as real:
        before = real.usage()
        real.start(len(real.hosts))
        agreed = real.agree()
        after = real.usage()
        return {
            "started_s": real.started_at - real.began_at,
            "agreed_s": agreed["viewed_at"] - real.began_at,
            "told_s": agreed["told_at"] - real.began_at,
            "cpu_s": after["cpu_s"] - before["cpu_s"],
            "distinct_sizes": float(len(set(agreed["sizes"]) - {1})),
            "megabytes_per_node": (after["lo_bytes"] - before["lo_bytes"]) / nodes / 1e6,
            "false_deaths": float(len(after["dead"])),
        }


def real_idle(nodes: int, preset: str) -> Measured:
    """They have joined, and nothing happens."""
    with mesh(nodes, preset) as real:
        real.start(GROUP)
        real.agree()
        time.sleep(SETTLE_S)
        before = real.usage()
        time.sleep(IDLE_S)
        after = real.usage()
        seconds = (after["at"] - before["at"]) * nodes
        return {
            "cpu_ms_per_second_per_node": (after["cpu_s"] - before["cpu_s"]) / seconds * 1e3,
            "with_tcp_ip_bytes_per_second_per_node": (after["lo_bytes"] - before["lo_bytes"]) / seconds,
            "frames_per_second_per_node": (after["frames_sent"] - before["frames_sent"]) / seconds,
            "pss_mb_per_node": after["pss_kib"] / 1024 / nodes,
            "connections_per_node": _connections() / nodes,
            "false_deaths": float(len(after["dead"])),
        }


def real_kill(nodes: int, preset: str) -> Measured:
    """Ten processes are killed, one after the other: when do all that live know?"""
    with mesh(nodes, preset, alone=VICTIMS) as real:
        real.start(GROUP)
        real.agree()
        time.sleep(SETTLE_S)
        times: list[float] = []
        victims = real.hosts[-VICTIMS:]
        for victim in victims:
            real.hosts.remove(victim)
            since = time.monotonic()
            victim.kill()
            answers = real.all("deaths", name=victim.names[0], timeout_s=DEATH_S)
            times += [at - since if at is not None else float("inf") for answer in answers for at in answer["at"]]
        false = real.usage()["dead"] - {victim.names[0] for victim in victims}
        times.sort()
        return {
            "p50_s": times[len(times) // 2],
            "p99_s": times[int(len(times) * 0.99)],
            "max_s": times[-1],
            "false_deaths": float(len(false)),
        }

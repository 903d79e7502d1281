"""A process that hosts some control planes of a mesh, and does what it is told in lines of JSON.

Each node is a whole control plane as ``AgentNetwork`` has it: a context, four CURVE sockets, a control thread, and its
own view, statements and records. What the data plane would add is not here. Times are ``time.monotonic``, which is one
clock for all processes of a machine.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq

from zmesh.config import PRESETS, Timings
from zmesh.core.membership.member import AgentRecord, MemberEventKind, NodeRecord
from zmesh.model import now_ms
from zmesh.runtime.control import ControlNotice, ControlPlane, PeerNotice
from zmesh.runtime.ports import bind_port_block
from zmesh.security import Identity, Verifier

__all__ = ["HOST", "serve"]

HOST = "127.0.0.1"
LOOK_S = 0.1
ENDS = (MemberEventKind.DIED, MemberEventKind.LEFT)


class HostedNode:
    """A control plane, and what it was told."""

    def __init__(self, identity: Identity, timings: Timings, seed: int) -> None:
        self.known: set[str] = set()  # members told of, with their records
        self.told_at = 0.0  # when the last of them was
        self.deaths: dict[str, float] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.plane = ControlPlane(
            context=self._context,
            identity=identity,
            verifier=Verifier(identity.mesh_id, identity.authority_public),
            timings=timings,
            authority=None,
            notify=self._notice,
            seed=seed,
        )
        self._sockets = bind_port_block(self._context, identity, HOST, 0)
        self.port = self._sockets.base_port
        self.plane.start(self._sockets, self._record(identity))

    def stop(self) -> None:
        """End without a word."""
        self.plane.stop(goodbye=False)
        self._sockets.data.close(linger=0)
        self._sockets.publish.close(linger=0)
        self._context.term()

    def _record(self, identity: Identity) -> NodeRecord:
        return NodeRecord(
            node_id=identity.node_id,
            incarnation=now_ms(),
            version=1,
            certificate=identity.certificate,
            machine="",
            hosts=(HOST,),
            introduction_port=self.port,
            control_port=self.port + 1,
            data_port=self.port + 2,
            publish_port=self.port + 3,
            agents=(AgentRecord(self.port, ("echo",), {"of": identity.node_id}),),
        )

    def _notice(self, notice: ControlNotice) -> None:
        if not isinstance(notice, PeerNotice):
            return
        name, now = notice.event.record.node_id, time.monotonic()
        if notice.event.kind in ENDS:
            self.known.discard(name)
            self.deaths[name] = now
        elif notice.event.kind is not MemberEventKind.SUSPECTED and name not in self.known:
            self.known.add(name)
            self.told_at = now


class Hosting:
    """The nodes of this process."""

    def __init__(self, identities: Sequence[Identity], timings: Timings) -> None:
        self._identities = iter(identities)
        self._timings = timings
        self._nodes: list[HostedNode] = []
        self._sizes: set[int] = set()

    def start(self, count: int, seeds: list[tuple[str, int]], seed: int) -> dict[str, Any]:
        """Start so many of them."""
        began = time.monotonic()
        ports = []
        for number, identity in zip(range(count), self._identities, strict=False):
            node = HostedNode(identity, self._timings, seed * 1000 + number)
            node.plane.dial(seeds, True)
            self._nodes.append(node)
            ports.append(node.port)
            self._look()
        return {"began_at": began, "started_at": time.monotonic(), "ports": ports}

    def agree(self, count: int, timeout_s: float) -> dict[str, Any]:
        """Wait until all have a view of so many members, and were told of each."""
        deadline = time.monotonic() + timeout_s
        viewed_at = None
        while time.monotonic() < deadline:
            views = self._look()
            if viewed_at is None and all(size == count for size, _ in views):
                viewed_at = time.monotonic()
            if viewed_at is not None and all(len(node.known) == count - 1 for node in self._nodes):
                break
            time.sleep(LOOK_S)
        return {
            "viewed_at": viewed_at,
            "told_at": max(node.told_at for node in self._nodes),
            "views": sorted(set(self._look())),
            "known": sorted({len(node.known) + 1 for node in self._nodes}),
            "sizes": sorted(self._sizes),
        }

    def deaths(self, name: str, timeout_s: float) -> dict[str, Any]:
        """Wait until all were told of that death; when each was."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not all(name in node.deaths for node in self._nodes):
            time.sleep(LOOK_S)
        return {"at": [node.deaths.get(name) for node in self._nodes]}

    def usage(self) -> dict[str, Any]:
        """What this process has used, and who its nodes were told has died."""
        spent = resource.getrusage(resource.RUSAGE_SELF)
        statistics = [node.plane.statistics() for node in self._nodes]
        incidents: dict[str, int] = {}
        for one in statistics:
            for kind, times in one.incidents.items():
                incidents[kind] = incidents.get(kind, 0) + times
        return {
            "at": time.monotonic(),
            "cpu_s": spent.ru_utime + spent.ru_stime,
            "pss_kib": _pss_kib(),
            "frames_sent": sum(one.frames_sent for one in statistics),
            "dials": sum(one.dials_opened for one in statistics),
            "incidents": incidents,
            "dead": sorted({name for node in self._nodes for name in node.deaths}),
        }

    def stop(self) -> None:
        """End all."""
        for node in self._nodes:
            node.stop()

    def _look(self) -> list[tuple[int, int]]:
        views = [(one.members, one.view_digest) for one in (node.plane.statistics() for node in self._nodes)]
        self._sizes.update(size for size, _ in views)
        return views


def _pss_kib() -> int:
    """The memory of this process, with its share of what it shares with others."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def serve(identities: Sequence[Identity], preset: str, commands: int, answers: int) -> None:
    """Obey what is read from one descriptor, until it ends, and answer on the other."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    hosting = Hosting(identities, {**PRESETS}[preset])
    known: dict[str, Callable[..., dict[str, Any]]] = {
        "start": hosting.start,
        "agree": hosting.agree,
        "deaths": hosting.deaths,
        "usage": hosting.usage,
    }
    with os.fdopen(commands) as lines, os.fdopen(answers, "w", buffering=1) as out:
        for line in lines:
            command = json.loads(line)
            out.write(json.dumps(known[command.pop("do")](**command)) + "\n")
    hosting.stop()

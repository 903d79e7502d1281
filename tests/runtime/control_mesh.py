"""Real control planes in one process: each has its own context, sockets and thread, as in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from zmesh.config import PRESETS, Timings
from zmesh.core.membership.member import AgentRecord, MemberEventKind, NodeRecord
from zmesh.model import now_ms
from zmesh.runtime.control import ControlNotice, ControlPlane, IncidentNotice, PeerNotice
from zmesh.runtime.ports import bind_port_block
from zmesh.security import Authority, Identity, Keystore, NodeKeys, Verifier

PATIENCE_S = 15.0


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S, pause_s: float = 0.005) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain until {what}"
        time.sleep(pause_s)


class Mesh:
    """A mesh authority in a directory, and identities by it."""

    def __init__(self, home: Path, name: str) -> None:
        keystore = Keystore(home, name)
        keystore.found(now_ms())
        self.authority: Authority = keystore.authority()
        claim = keystore.claim("founder", client=False, now_ms=now_ms())
        self._founder = claim.identity
        claim.release()

    def identity(self, name: str, issued_ms: int | None = None) -> Identity:
        keys = NodeKeys.generate()
        issued_ms = now_ms() if issued_ms is None else issued_ms
        certificate = self.authority.issue(name, keys.curve_public, keys.signing_public, issued_ms)
        return replace(
            self._founder,
            node_id=name,
            curve_public=keys.curve_public,
            curve_secret=keys.curve_secret,
            signing_seed=keys.signing_seed,
            certificate=certificate,
        )


class Node:
    """A control plane with its context, and what it has told."""

    def __init__(
        self,
        identity: Identity,
        *,
        host: str = "127.0.0.1",
        port: int | None = 0,
        hosts: tuple[str, ...] = ("127.0.0.1",),
        timings: Timings = PRESETS["lan"],
        authority: Authority | None = None,
        incarnation: int | None = None,
        machine: str = "",
    ) -> None:
        self.identity = identity
        self.name = identity.node_id
        self.notices: list[ControlNotice] = []
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.plane = ControlPlane(
            context=self.context,
            identity=identity,
            verifier=Verifier(identity.mesh_id, identity.authority_public),
            timings=timings,
            authority=authority,
            notify=self.notices.append,
            seed=1,
        )
        try:
            self.sockets = bind_port_block(self.context, identity, host, port)
        except BaseException:
            self.plane.stop(goodbye=False)
            self.context.term()
            raise
        self.port = self.sockets.base_port
        self.record = NodeRecord(
            node_id=self.name,
            incarnation=incarnation if incarnation is not None else now_ms(),
            version=1,
            certificate=identity.certificate,
            machine=machine,
            hosts=hosts,
            introduction_port=self.port,
            control_port=self.port + 1,
            data_port=self.port + 2,
            publish_port=self.port + 3,
            agents=(AgentRecord(7, ("echo",), {"of": self.name}),),
        )
        self._is_open = True
        self.plane.start(self.sockets, self.record)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.stop(goodbye=False)

    def stop(self, *, goodbye: bool) -> None:
        if self._is_open:
            self._is_open = False
            self.plane.stop(goodbye=goodbye)
            self.sockets.data.close(linger=0)
            self.sockets.publish.close(linger=0)
            self.context.term()

    def dial(self, *others: Node, persistent: bool = True) -> None:
        self.plane.dial([("127.0.0.1", other.port) for other in others], persistent)

    def kinds(self, name: str) -> list[str]:
        return [n.event.kind.value for n in self._peer_notices(name)]

    def last(self, name: str) -> PeerNotice:
        return self._peer_notices(name)[-1]

    def _peer_notices(self, name: str) -> list[PeerNotice]:
        return [n for n in list(self.notices) if isinstance(n, PeerNotice) and n.event.record.node_id == name]

    def incidents(self, kind: str | None = None) -> list[IncidentNotice]:
        return [n for n in list(self.notices) if isinstance(n, IncidentNotice) and kind in (None, n.kind)]

    def sees(self, *others: Node) -> bool:
        return all(
            (found := self._peer_notices(other.name))
            and found[-1].event.kind in (MemberEventKind.JOINED, MemberEventKind.CHANGED, MemberEventKind.RECOVERED)
            for other in others
        )


def wait_until_all_see_all(*nodes: Node) -> None:
    for node in nodes:
        others = [other for other in nodes if other is not node]
        wait_for(lambda n=node, o=others: n.sees(*o), f"{node.name} sees all others")  # type: ignore[misc]


def has_judged_all(node: Node) -> bool:
    """Whether nobody is left of whom the node may yet report that it came and was not let in."""
    loop = node.plane._loop
    assert loop is not None
    is_quiet = not any(listener._unfinished for listener in loop._listeners)
    return is_quiet and all(node.plane._allowed.by_key(key) for key in list(loop._zap._strangers))

"""``NetworkConfig``: everything one node chooses for itself, frozen and checked across fields.

Timings come from a preset (``local``, ``lan``, ``wan``); a value given explicitly wins over the preset's.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from zmesh.address import check_host, parse_address, parse_peer_address
from zmesh.errors import ConfigurationError

__all__ = ["DEFAULT_MESH", "NetworkConfig", "Timings"]

DEFAULT_MESH = "default"
KIB = 1024
MIB = 1024 * KIB
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}(/[A-Za-z0-9][A-Za-z0-9._-]{0,30})?")
NAME_FORM = "1-63 of the letters A-Z and a-z, digits, '.', '_' and '-', and begin with a letter or digit"

PresetName = Literal["local", "lan", "wan"]


@dataclass(frozen=True, slots=True)
class Timings:
    """How patient a node is. Seconds throughout.

    The first three are for meshes of up to 32 nodes; what larger ones do, and how long a node is waited for whose
    process has only stopped, goes by the preset (docs/membership.md), ``lan`` where the times are not a preset's.
    """

    heartbeat_interval_s: float = 0.25  # a 100-byte frame per peer: 4 a second is nothing on a LAN
    suspect_after_s: float = 1.0  # of silence, four heartbeats: it is asked, and its port is knocked at
    dead_after_s: float = 2.0  # of silence, unless its machine answers the knock; a killed process waits for no time
    forget_after_s: float = 600.0  # how long the dead stay listed as DISCONNECTED
    resume_window_s: float = 30.0  # a silent peer's session is kept this long, then its messages are reported lost
    redial_interval_s: float = 2.0  # between attempts at an address nobody answered at
    redial_interval_max_s: float = 30.0


PRESETS: dict[str, Timings] = {
    "local": Timings(heartbeat_interval_s=0.1, suspect_after_s=0.5, dead_after_s=1.0, redial_interval_s=0.5),
    "lan": Timings(),
    "wan": Timings(heartbeat_interval_s=1.0, suspect_after_s=4.0, dead_after_s=8.0, resume_window_s=120.0),
}


def default_home() -> Path:
    """``$ZMESH_HOME``, or ``~/.zmesh``."""
    return Path(os.environ.get("ZMESH_HOME") or Path.home() / ".zmesh")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """What one node chooses. Raises ``ConfigurationError`` at once for a value that cannot work."""

    mesh: str | None = None  # the mesh's name in the home directory; None: the only one there, else "default"
    node_id: str | None = None  # None: the host's name; docs/zmesh-node.md says which when that runs already
    home: Path = field(default_factory=default_home)  # keys and certificates live here
    listen: str | None = None  # "tcp://HOST:PORT"; None: every interface, first free port block from 7650
    advertise: tuple[str, ...] = ()  # hosts to tell others; (): those of the interfaces listened on
    bootstrap: tuple[str, ...] = ()  # "tcp://HOST:PORT" of nodes to dial
    join: str | None = field(default=None, repr=False)  # a join string from ``zmesh invite``: a secret
    mdns: bool = True
    client: bool = False  # a light client: joins, does one thing, leaves; nobody counts on it
    preset: PresetName = "lan"
    timings: Timings | None = None
    window_bytes: int = 4 * MIB  # credit a node grants each peer: the most a slow handler can make it hold
    max_message_bytes: int = 64 * MIB  # the same on all nodes: who is sent more than it takes refuses the session
    request_timeout_s: float = 30.0
    handler_concurrency: int = 1024  # waiting handlers per agent before its messages queue
    idle_link_s: float = 300.0  # a data connection unused for this long is closed; it reopens on use

    def __post_init__(self) -> None:
        self._check_names()
        self._check_sizes()
        for address in self.bootstrap:
            parse_peer_address(address)
        for host in self.advertise:
            check_host(host)
        if self.listen is not None:
            parse_address(self.listen)

    @property
    def mesh_name(self) -> str:
        """The mesh's directory in the home: as configured, else the only one there, else "default"."""
        if self.mesh is not None:
            return self.mesh
        # Not the hidden ones: a mesh that another process is just now making has such a name until it is whole.
        there = sorted(path.parent.name for path in self.home.glob("[!.]*/mesh.msgpack"))
        if len(there) > 1 and DEFAULT_MESH not in there:
            raise ConfigurationError(
                f"{self.home} holds the meshes {', '.join(there)}: say which with mesh=, or --mesh"
            )
        return there[0] if len(there) == 1 else DEFAULT_MESH

    @property
    def effective_timings(self) -> Timings:
        """The timings in force: those given, else the preset's."""
        return self.timings if self.timings is not None else PRESETS[self.preset]

    def with_changes(self, **changes: object) -> NetworkConfig:
        """A copy with some fields changed, checked again."""
        return replace(self, **changes)  # type: ignore[arg-type]  # dataclasses.replace has no typed form for this

    def _check_names(self) -> None:
        if self.mesh is not None and (not NAME_PATTERN.fullmatch(self.mesh) or "/" in self.mesh):
            raise ConfigurationError(f"mesh name {self.mesh!r} must be {NAME_FORM}")
        if self.node_id is not None and not NAME_PATTERN.fullmatch(self.node_id):
            raise ConfigurationError(f"node name {self.node_id!r} must be {NAME_FORM}")
        if self.preset not in PRESETS:
            raise ConfigurationError(f"preset {self.preset!r} must be one of {', '.join(PRESETS)}")

    def _check_sizes(self) -> None:
        if not 64 * KIB <= self.window_bytes <= 1024 * MIB:
            raise ConfigurationError(f"window_bytes={self.window_bytes} must lie between 64 KiB and 1 GiB")
        if not 1 <= self.max_message_bytes <= 1024 * MIB:
            raise ConfigurationError(f"max_message_bytes={self.max_message_bytes} must lie between 1 and 1 GiB")
        if not 0 < self.request_timeout_s < math.inf:
            raise ConfigurationError(f"request_timeout_s={self.request_timeout_s} must be positive and finite")
        if self.handler_concurrency < 1:
            raise ConfigurationError(f"handler_concurrency={self.handler_concurrency} must be at least 1")
        timings = self.effective_timings
        if not timings.heartbeat_interval_s * 2 <= timings.suspect_after_s < timings.dead_after_s:
            raise ConfigurationError(
                "timings must hold 2 * heartbeat_interval_s <= suspect_after_s < dead_after_s, "
                f"not {timings.heartbeat_interval_s}, {timings.suspect_after_s}, {timings.dead_after_s}"
            )

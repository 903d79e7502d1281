"""Which settings ``zmesh-node`` and ``zmesh`` have, and how they become a ``NetworkConfig``.

Both programs accept the whole table in a configuration file, so that one file serves a machine; each uses its own part.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from zmesh import ConfigurationError, NetworkConfig
from zmesh.address import check_host, parse_address, parse_peer_address
from zmesh.security import Keystore
from zmesh.tools.configfile import read_config_file
from zmesh.tools.settings import Kind, Setting, resolve

__all__ = ["CLIENT_SETTINGS", "NODE_SETTINGS", "ClientChoice", "MeshChoice", "NodeChoice", "choose", "local_addresses"]

LOG_LEVELS = ("debug", "info", "warning", "error")


def check_directory(path: str) -> None:
    """Raise ``ConfigurationError`` for the empty path, which would mean wherever the program was started."""
    if not path.strip():
        raise ConfigurationError("the name of a directory must not be empty")


_COMMON = (
    Setting(
        "mesh", "the mesh's name in the home directory (default: the only one there, else 'default')", metavar="NAME"
    ),
    Setting(
        "home", "directory of keys and certificates (default: ~/.zmesh)", metavar="DIRECTORY", check=check_directory
    ),
    Setting(
        "bootstrap", "a node to dial; may be repeated", Kind.LIST, metavar="tcp://HOST:PORT", check=parse_peer_address
    ),
    Setting("mdns", "look for nodes on the local network, and be found there (default: yes)", Kind.SWITCH),
    Setting("json", "one JSON object a line on standard output", Kind.SWITCH),
    Setting("log_level", "how much to log on standard error (default: error)", choices=LOG_LEVELS),
    Setting("config", "a TOML file holding any of these settings", metavar="FILE.toml", in_file=False),
)

_NODE_ONLY = (
    Setting("name", "this node's name (default: the host's, numbered when that runs already)"),
    Setting(
        "listen",
        "the first of four ports (default: every interface, from 7650)",
        metavar="tcp://HOST:PORT",
        check=parse_address,
    ),
    Setting(
        "advertise",
        "a host name or address to tell others, if not one's own; may be repeated",
        Kind.LIST,
        metavar="HOST",
        check=check_host,
    ),
    Setting("join", "enrol in the mesh of this join string, which 'zmesh invite' prints", metavar="STRING"),
    Setting("agent", "offer this agent; may be repeated", Kind.LIST, "MODULE:OBJECT"),
)

_CLIENT_ONLY = (Setting("timeout", "give up after this long (default: 10)", Kind.SECONDS, "SECONDS"),)

NODE_SETTINGS = _NODE_ONLY + _COMMON
CLIENT_SETTINGS = _COMMON + _CLIENT_ONLY
_IN_FILE = _NODE_ONLY + _COMMON + _CLIENT_ONLY


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshChoice:
    """What the user chose for either program; None where a default of ``NetworkConfig`` stands."""

    mesh: str | None = None
    home: str | None = None
    bootstrap: tuple[str, ...] = ()
    mdns: bool = True
    json: bool = False
    log_level: str = "error"

    def network_config(self) -> NetworkConfig:
        """The configuration to join with. Raises ``ConfigurationError``."""
        config = NetworkConfig(mesh=self.mesh, bootstrap=self.bootstrap, mdns=self.mdns)
        return config if self.home is None else config.with_changes(home=Path(self.home).expanduser())


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChoice(MeshChoice):
    """What the user chose for ``zmesh-node``."""

    name: str | None = None
    listen: str | None = None
    advertise: tuple[str, ...] = ()
    join: str | None = field(default=None, repr=False)  # a secret
    agent: tuple[str, ...] = ()

    def network_config(self) -> NetworkConfig:
        """The configuration to join with. Raises ``ConfigurationError``."""
        # zero-argument super() does not work in a dataclass with slots before Python 3.14
        return MeshChoice.network_config(self).with_changes(
            node_id=self.name, listen=self.listen, advertise=self.advertise, join=self.join
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientChoice(MeshChoice):
    """What the user chose for ``zmesh``."""

    timeout: float = 10.0

    def network_config(self) -> NetworkConfig:
        """The configuration to join with. Raises ``ConfigurationError``."""
        return MeshChoice.network_config(self).with_changes(client=True)


ChoiceT = TypeVar("ChoiceT", bound=MeshChoice)


def choose(
    kind: type[ChoiceT],
    settings: Sequence[Setting],
    arguments: argparse.Namespace,
    environment: Mapping[str, str] | None = None,
) -> ChoiceT:
    """Flag over environment over file over default. Raises ``ConfigurationError``."""
    values = resolve(
        settings,
        arguments,
        os.environ if environment is None else environment,
        lambda path: read_config_file(path, _IN_FILE),
    )
    return msgspec.convert(values, kind)


def local_addresses(config: NetworkConfig) -> list[str]:
    """Where this mesh's nodes on this machine listen now: found by their key directory, with no network involved."""
    if config.mesh is None and config.join is not None:
        return []  # the join string names the mesh, and its addresses
    keystore = Keystore(config.home, config.mesh_name)
    return [address for node in keystore.running() for address in node.addresses] if keystore.exists() else []

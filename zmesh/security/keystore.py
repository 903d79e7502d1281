"""``Keystore``: the home directory of one mesh on this machine (docs/spec/04-trust.md, section 7).

    HOME/MESH/mesh.msgpack            what every member holds: mesh name, authority's public key, gate key
    HOME/MESH/authority/              key.msgpack, ledger.msgpack; only where the mesh was founded
    HOME/MESH/nodes/NAME/             identity.msgpack; lock, held while the node runs; running.json

A mesh directory appears whole, by a rename, so that two processes starting at once cannot found two meshes in it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zmesh.errors import ConfigurationError, KeystoreError
from zmesh.security.authority import Authority
from zmesh.security.files import check_directory, is_there, make_directory, rename_unless_there
from zmesh.security.identity import Identity
from zmesh.security.invitation import Enrolled, Invitation
from zmesh.security.keys import (
    NodeKeys,
    curve_public_of,
    mesh_id_of,
    new_curve_secret,
    new_signing_seed,
    signing_public_of,
)
from zmesh.security.naming import RENEW_AHEAD_MS, Registrar, default_node_name
from zmesh.security.nodes import Claimed, NodeStore, RunningNode, StoredNode
from zmesh.security.stored import AuthorityFile, MeshFile, load, save

__all__ = ["Claim", "Keystore", "RunningNode", "default_node_name"]


class Claim:
    """The right to run as ``identity``, held until released or until the process ends."""

    def __init__(self, identity: Identity, claimed: Claimed | None, incarnation: int) -> None:
        self.identity = identity  # its owner may put a renewed one here
        self.incarnation = incarnation  # greater than those of all earlier starts of this node
        self._claimed = claimed

    def __repr__(self) -> str:
        return f"Claim({self.identity!r})"

    def announce(self, addresses: Sequence[str]) -> None:
        """Let other programs of this home find the node: ``addresses`` are "tcp://HOST:PORT", best first.

        Does nothing for a client, of which nothing is kept on the disk. Raises ``KeystoreError``.
        """
        if self._claimed is not None:
            self._claimed.announce(addresses)

    def release(self) -> None:
        """Give the identity up for others to take; a second call does nothing. Raises ``KeystoreError``."""
        claimed, self._claimed = self._claimed, None
        if claimed is not None:
            claimed.release()


class Keystore:
    """The keys of one mesh in one home directory. Blocks on the disk; keeps no state between calls but the locks.

    ``mesh`` is the name of the directory; what the mesh calls itself is in it. Every method raises ``KeystoreError``
    where files are missing, damaged, not ours, or open to other users.
    """

    def __init__(self, home: Path, mesh: str) -> None:
        self._home = home
        self._name = mesh
        self._directory = home / mesh
        self._nodes = NodeStore(self._directory / "nodes")

    def exists(self) -> bool:
        """Whether this machine is of the mesh: it founded it, or was enrolled."""
        return is_there(self._directory / "mesh.msgpack")

    def has_authority(self) -> bool:
        """Whether the mesh was founded here, so that this machine can invite others."""
        return is_there(self._directory / "authority" / "key.msgpack")

    def found(self, now_ms: int) -> None:
        """Make the mesh's authority. Raises ``ConfigurationError`` where the mesh exists."""
        if not self.ensure(now_ms):
            origin = "founded on this machine" if self.has_authority() else "founded on another machine"
            raise ConfigurationError(
                f"the mesh {self._name!r} exists already in {self._directory} (id {self.mesh_id()}, {origin}): start "
                "`zmesh-node` to use it, give --mesh NAME to make another, or move the directory away to start afresh"
            )

    def mesh_id(self) -> str:
        """What tells the mesh from others of its name. Raises ``KeystoreError``."""
        return mesh_id_of(self._mesh().authority_public)

    def ensure(self, now_ms: int) -> bool:
        """Found the mesh unless it exists; whether this call founded it. Safe against others doing the same."""
        if self.exists():
            return False
        seed = new_signing_seed()
        mesh = MeshFile(self._name, signing_public_of(seed), new_curve_secret())
        with self._new_mesh(mesh) as directory:
            make_directory(directory / "authority")
            save(directory / "authority" / "key.msgpack", AuthorityFile(seed))
        return self._mesh().authority_public == mesh.authority_public

    def authority(self) -> Authority:
        """The mesh authority. Raises ``KeystoreError`` where the mesh was not founded on this machine."""
        mesh = self._mesh()
        directory = self._directory / "authority"
        key = load(directory / "key.msgpack", AuthorityFile)
        if key is None:
            raise KeystoreError(
                f"this machine has no authority over the mesh {self._name!r}: run this on the machine that founded it"
            )
        check_directory(directory, private=True)
        if signing_public_of(key.signing_seed) != mesh.authority_public:
            raise KeystoreError(f"the authority's key in {directory} is of another mesh: restore it from a backup")
        return Authority(directory, mesh, key)

    def claim(self, node_id: str | None, *, client: bool, now_ms: int) -> Claim:
        """Become a node of the mesh, with a certificate that is good at ``now_ms`` (milliseconds since the epoch).

        ``node_id`` None takes this machine's name, or the next free numbered one while live processes have it. A
        client gets a throwaway name under a node of this machine (``node_id`` says which) and leaves no file.
        Raises ``KeystoreError``: the name is taken, the machine was never enrolled, its certificate expired ...
        """
        mesh = self._mesh()
        registrar = self._registrar(mesh)
        with self._nodes.guard():
            if client:
                return Claim(_identity(mesh, registrar.throwaway(node_id, now_ms)), None, now_ms)
            node, claimed = registrar.take(node_id, now_ms)
            try:
                return Claim(_identity(mesh, node), claimed, claimed.new_incarnation(now_ms))
            except BaseException:
                claimed.release()
                raise

    def renew(self, identity: Identity, *, client: bool, now_ms: int) -> Identity:
        """The identity of a running node with a certificate that is good for longer, where this machine can make one.

        ``identity`` itself before half of the certificate's life is over, and where there is none better. On an
        enrolled machine a better one is there after it has enrolled again. Raises ``KeystoreError``.
        """
        not_before_ms, not_after_ms = identity.period_ms
        is_half_spent = not_after_ms - now_ms <= (not_after_ms - not_before_ms) // 2
        if not is_half_spent and identity.vouched_until_ms - now_ms > RENEW_AHEAD_MS:
            return identity
        keys = NodeKeys(curve_secret=identity.curve_secret, signing_seed=identity.signing_seed)
        mesh = self._mesh()
        registrar = self._registrar(mesh)
        with self._nodes.guard():
            node = registrar.renew(
                StoredNode(identity.node_id, keys, identity.certificate), client=client, now_ms=now_ms
            )
        renewed = _identity(mesh, node)
        is_better = is_half_spent and renewed.period_ms[1] > not_after_ms
        return renewed if is_better or renewed.vouched_until_ms > identity.vouched_until_ms else identity

    def running(self) -> list[RunningNode]:
        """The nodes of this home that are alive now, sorted by name."""
        self._mesh()
        return self._nodes.running()

    def is_member_by(self, invitation: Invitation, now_ms: int) -> bool:
        """Whether this machine is of the invitation's mesh already, so that there is nothing to redeem.

        False too where its certificate has expired. Raises ``KeystoreError`` where the directory is of another mesh:
        ask before the invitation is spent.
        """
        if not self.exists():
            return False
        mesh = self._mesh()
        self._check_same(mesh.authority_public, invitation.authority_public)
        return self.has_authority() or self._registrar(mesh).is_enrolled(now_ms)

    def may_enrol_again(self, now_ms: int) -> bool:
        """Whether this member's certificate ends so soon that a new invitation should be spent on it."""
        return not self.has_authority() and not self._registrar(self._mesh()).is_enrolled(now_ms + RENEW_AHEAD_MS)

    def to_enrol(self, node_id: str | None) -> tuple[str, NodeKeys]:
        """The name and keys to enrol with; ``node_id`` None: the name this machine has had, else the host's.

        A node that was enrolled before keeps its keys, and so its name.
        """
        if not self.exists():
            return node_id or default_node_name(), NodeKeys.generate()
        name = node_id or next(iter(self._registrar(self._mesh()).own_names()), default_node_name())
        node = self._nodes.load(name)
        return name, node.keys if node is not None else NodeKeys.generate()

    def save_enrolled(self, enrolled: Enrolled) -> None:
        """Store what an enrolment gave. Raises ``KeystoreError``, also where the directory is of another mesh."""
        mesh = MeshFile(enrolled.mesh, enrolled.authority_public, enrolled.gate_secret)
        node = StoredNode(enrolled.name, enrolled.keys, enrolled.certificate)
        if not self.exists():
            with self._new_mesh(mesh) as directory:
                make_directory(directory / "nodes")
                NodeStore(directory / "nodes").save(node)
        self._check_same(self._mesh().authority_public, enrolled.authority_public)
        with self._nodes.guard():
            self._nodes.save(node)

    def _mesh(self) -> MeshFile:
        if not self.exists():
            raise KeystoreError(
                f"there is no mesh {self._name!r} in {self._home}: make one with `zmesh init`, or join one with "
                "`zmesh-node --join STRING`"
            )
        check_directory(self._home, private=False)
        check_directory(self._directory, private=True)
        mesh = load(self._directory / "mesh.msgpack", MeshFile)
        if mesh is None:
            raise KeystoreError(f"{self._directory / 'mesh.msgpack'} has just been removed: restore it from a backup")
        return mesh

    def _registrar(self, mesh: MeshFile) -> Registrar:
        return Registrar(mesh, self._nodes, self.authority() if self.has_authority() else None)

    def _check_same(self, mine: bytes, other: bytes) -> None:
        if mine != other:
            raise KeystoreError(
                f"{self._directory} holds another mesh ({mesh_id_of(mine)[:8]}...) than the invitation's "
                f"({mesh_id_of(other)[:8]}...): choose another name for it with --mesh, or move the directory away"
            )

    @contextmanager
    def _new_mesh(self, mesh: MeshFile) -> Iterator[Path]:
        """A directory to fill, which then becomes the mesh's, unless another process was quicker."""
        make_directory(self._home)
        check_directory(self._home, private=False)
        directory = self._home / f".{self._name}.{os.urandom(6).hex()}"
        make_directory(directory)
        try:
            save(directory / "mesh.msgpack", mesh)
            yield directory
            is_ours = rename_unless_there(directory, self._directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)  # gone already, unless something above failed
        if not is_ours and not self.exists():
            raise KeystoreError(f"{self._directory} holds files, but no mesh: move it away, and try again")


def _identity(mesh: MeshFile, node: StoredNode) -> Identity:
    return Identity(
        node_id=node.name,
        mesh=mesh.name,
        mesh_id=mesh_id_of(mesh.authority_public),
        curve_public=node.keys.curve_public,
        curve_secret=node.keys.curve_secret,
        signing_seed=node.keys.signing_seed,
        certificate=node.certificate,
        authority_public=mesh.authority_public,
        gate_public=curve_public_of(mesh.gate_secret),
        gate_secret=mesh.gate_secret,
    )

"""Which name a process may have on this machine, and the certificate that goes with it.

Where the mesh was founded, its authority certifies the host's name, then the host's name with numbers. On an enrolled
machine only the enrolled name is the authority's; every further node, and every client anywhere, gets a name under
one of the machine's own (``desk/2``, ``desk/cli-5c0f11aa``) that this machine signs for itself.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator

from zmesh.core.trust.certificate import NAME_PATTERN, Certificate, CertificateRefused, RefusalReason
from zmesh.core.trust.rules import MAX_DELEGATED_LIFE_MS
from zmesh.errors import KeystoreError
from zmesh.security.authority import MAX_NAME_LENGTH, MAX_NAMES_TRIED, NODE_LIFE_MS, Authority, NameTaken, numbered
from zmesh.security.certificate import decode_chain, encode_chain, sign
from zmesh.security.keys import NodeKeys, mesh_id_of, z85_decode
from zmesh.security.ledger import DAY_MS
from zmesh.security.nodes import Claimed, NodeStore, StoredNode
from zmesh.security.stored import MeshFile
from zmesh.security.verifier import Verifier

__all__ = ["CLIENT_LIFE_MS", "RENEW_AHEAD_MS", "Registrar", "default_node_name"]

RENEW_AHEAD_MS = 30 * DAY_MS  # from then on a machine that depends on another for it is told, and may enrol again
CLIENT_LIFE_MS = 2 * DAY_MS  # more than a clock may be off by, as a command lives for seconds
_SERIAL_BYTES = 7  # a delegated serial is random: nobody counts them, and 56 bits do not meet by chance


def default_node_name() -> str:
    """This machine's host name without its domain, made a legal node name."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname().partition(".")[0]).lstrip("._-")
    return name[:MAX_NAME_LENGTH] or "node"


class Registrar:
    """Gives out names and certificates from what one mesh directory holds. Call it under the store's guard."""

    def __init__(self, mesh: MeshFile, nodes: NodeStore, authority: Authority | None) -> None:
        self._mesh_id = mesh_id_of(mesh.authority_public)
        self._verifier = Verifier(self._mesh_id, mesh.authority_public)
        self._nodes = nodes
        self._authority = authority

    def take(self, node_id: str | None, now_ms: int) -> tuple[StoredNode, Claimed]:
        """The node ``node_id``, or the first free one, claimed and certified. Raises ``KeystoreError``."""
        for name in self._candidates(node_id):
            claimed = self._nodes.try_claim(name)
            if claimed is None:
                continue
            try:
                return self._ready(name, now_ms), claimed
            except NameTaken:
                claimed.release()
                if node_id is not None:
                    raise
            except BaseException:
                claimed.release()
                raise
        raise self._in_use(node_id)

    def throwaway(self, node_id: str | None, now_ms: int) -> StoredNode:
        """A short-lived node under ``node_id``, or under this machine's first node. Raises ``KeystoreError``."""
        issuer = self._issuer(node_id, now_ms)
        name = f"{issuer.name}/cli-{os.urandom(4).hex()}"
        keys = NodeKeys.generate()
        return StoredNode(name, keys, self._delegate(issuer, name, keys, now_ms, CLIENT_LIFE_MS))

    def renew(self, node: StoredNode, *, client: bool, now_ms: int) -> StoredNode:
        """The node with the certificate that it would get if it started now. Raises ``KeystoreError``."""
        if not client:
            return self._ready(node.name, now_ms)
        issuer = self._ready(node.name.partition("/")[0], now_ms)
        return StoredNode(node.name, node.keys, self._delegate(issuer, node.name, node.keys, now_ms, CLIENT_LIFE_MS))

    def own_names(self) -> list[str]:
        """The names that this machine has from the authority, the one like the host's first."""
        names = [name for name in self._nodes.names() if "/" not in name]
        return sorted(names, key=lambda name: (name != default_node_name(), name))

    def is_enrolled(self, at_ms: int) -> bool:
        """Whether this machine has a certificate by the authority that is good at that time."""
        return any(self._is_good(name, at_ms) for name in self.own_names())

    def _candidates(self, node_id: str | None) -> Iterator[str]:
        if node_id is not None:
            if not NAME_PATTERN.fullmatch(node_id):
                raise KeystoreError(f"the node name {node_id!r} is none: use 1-63 letters, digits, '.', '_' or '-'")
            yield node_id
        elif self._authority is not None:
            yield from numbered(default_node_name())
        else:
            names = self._enrolled_names()
            yield from names
            yield from (f"{names[0]}/{number}" for number in range(2, MAX_NAMES_TRIED))

    def _enrolled_names(self) -> list[str]:
        names = self.own_names()
        if not names:
            raise KeystoreError(
                "this machine has no certificate of the mesh: get a join string with `zmesh invite` on the machine "
                "that founded it, and run `zmesh-node --join STRING`"
            )
        return names

    def _in_use(self, node_id: str | None) -> KeystoreError:
        if node_id is None:
            return KeystoreError(f"{MAX_NAMES_TRIED} nodes of this mesh run on this machine: stop some of them")
        running = self._nodes.announcement(node_id)
        process = f"process {running.pid}" if running is not None else "another process"
        return KeystoreError(
            f"the node {node_id!r} runs on this machine already ({process}): stop it, or give this one another --name"
        )

    def _issuer(self, node_id: str | None, now_ms: int) -> StoredNode:
        if node_id is not None:
            return self._ready(node_id.partition("/")[0], now_ms)
        if self._authority is None or self.own_names():
            return self._ready(self._enrolled_names()[0], now_ms)
        for name in numbered(default_node_name()):
            try:
                return self._ready(name, now_ms)
            except NameTaken:
                continue  # another machine of the mesh has the same host name
        raise self._in_use(None)

    def _ready(self, name: str, now_ms: int) -> StoredNode:
        """The node with a certificate that is good now, made or renewed where that is needed and possible."""
        stored = self._nodes.load(name)
        keys = stored.keys if stored is not None else NodeKeys.generate()
        node = StoredNode(name, keys, self._certificate(name, keys, stored, now_ms))
        self._check_good(node, now_ms)
        if stored is None or stored.certificate != node.certificate:
            self._nodes.save(node)
        return node

    def _certificate(self, name: str, keys: NodeKeys, stored: StoredNode | None, now_ms: int) -> bytes:
        if "/" in name:
            issuer = self._ready(name.partition("/")[0], now_ms)
            return self._delegate(issuer, name, keys, now_ms, MAX_DELEGATED_LIFE_MS)
        if stored is not None and (self._authority is None or not self._needs_renewal(stored, now_ms)):
            return stored.certificate
        if self._authority is not None:
            return self._authority.issue(name, keys.curve_public, keys.signing_public, now_ms)
        names = self._enrolled_names()
        raise KeystoreError(
            f"this machine may not call itself {name!r}: use --name {names[0]}, --name {names[0]}/{name[:31]}, "
            "or join under that name with a new join string"
        )

    def _needs_renewal(self, stored: StoredNode, now_ms: int) -> bool:
        try:
            verified = self._verifier.verify(stored.certificate, now_ms, stored.keys.curve_public)
        except CertificateRefused as refusal:
            return refusal.reason_code is RefusalReason.EXPIRED  # any other fault is told, not papered over
        return verified.not_after_ms - now_ms < NODE_LIFE_MS // 2

    def _delegate(self, issuer: StoredNode, name: str, keys: NodeKeys, now_ms: int, life_ms: int) -> bytes:
        link = decode_chain(issuer.certificate)[0]
        not_before_ms = max(now_ms, link.certificate.not_before_ms)  # the clock here may lag behind the authority's
        certificate = Certificate(
            mesh_id=self._mesh_id,
            name=name,
            serial=int.from_bytes(os.urandom(_SERIAL_BYTES)),
            curve_key=z85_decode(keys.curve_public),
            signing_key=keys.signing_public,
            issuer=issuer.name,
            not_before_ms=not_before_ms,
            not_after_ms=min(not_before_ms + life_ms, link.certificate.not_after_ms),
        )
        return encode_chain([sign(certificate, issuer.keys.signing_seed), link])

    def _check_good(self, node: StoredNode, now_ms: int) -> None:
        try:
            verified = self._verifier.verify(node.certificate, now_ms, node.keys.curve_public)
        except CertificateRefused as refusal:
            raise KeystoreError(f"this node cannot start: {refusal}{_remedy(refusal)}") from None
        if verified.name != node.name or verified.signing_public != node.keys.signing_public:
            raise KeystoreError(f"the certificate of {node.name!r} here is not for its keys: restore it from a backup")

    def _is_good(self, name: str, now_ms: int) -> bool:
        node = self._nodes.load(name)
        if node is None:
            return False
        try:
            self._verifier.verify(node.certificate, now_ms, node.keys.curve_public)
        except CertificateRefused:
            return False
        return True


def _remedy(refusal: CertificateRefused) -> str:
    if refusal.reason_code is RefusalReason.EXPIRED:
        return "; to renew it, run `zmesh-node --join STRING` with a new string from `zmesh invite`"
    return ""

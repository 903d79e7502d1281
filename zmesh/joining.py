"""From a configuration to an identity: found a mesh, enrol in one, or be who one was. Blocks on disk and network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from zmesh.config import NetworkConfig
from zmesh.errors import InvitationError, KeystoreError
from zmesh.model import now_ms
from zmesh.renewal import Renewal
from zmesh.runtime.control_notices import IncidentNotice
from zmesh.runtime.enrolment import enrol
from zmesh.security import Authority, Claim, Identity, Invitation, Keystore, RunningNode, parse_join_string

__all__ = ["ENROL_TIMEOUT_S", "Membership", "take_identity"]

logger = logging.getLogger("zmesh.joining")

ENROL_TIMEOUT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Membership:
    """The right to be a node of a mesh, and where its nodes may be found."""

    keystore: Keystore
    claim: Claim
    addresses: tuple[str, ...]

    @property
    def identity(self) -> Identity:
        """The claim's; a renewed one takes its place."""
        return self.claim.identity

    @property
    def incarnation(self) -> int:
        """The claim's."""
        return self.claim.incarnation

    def has_authority(self) -> bool:
        """Whether the mesh was founded on this machine."""
        return self.keystore.has_authority()

    def authority(self) -> Authority:
        """What invites others. Raises ``KeystoreError`` where the mesh was founded elsewhere."""
        return self.keystore.authority()

    def neighbours(self) -> Sequence[RunningNode]:
        """The running nodes of this key directory."""
        return self.keystore.running()

    def announce(self, addresses: Sequence[str]) -> None:
        """Tell them where this one is."""
        self.claim.announce(addresses)

    async def keep_renewed(
        self, *, client: bool, renewed: Callable[[], None], report: Callable[[IncidentNotice], None]
    ) -> None:
        """See ``Renewal``."""
        await Renewal(self.keystore, self.claim, client=client, renewed=renewed, report=report).run()

    def release(self) -> None:
        """Give the claim up."""
        self.claim.release()


def take_identity(config: NetworkConfig, is_abandoned: Callable[[], bool] = lambda: False) -> Membership:
    """Become a member as ``config`` says; an enrolment ends early once ``is_abandoned`` says so.

    Raises ``InvitationError``, ``KeystoreError``, ``ConfigurationError``.
    """
    invitation = parse_join_string(config.join) if config.join is not None else None
    if invitation is not None:
        keystore = Keystore(config.home, config.mesh or invitation.mesh)
        _enrol(keystore, invitation, config, is_abandoned)
    else:
        keystore = Keystore(config.home, config.mesh_name)
        if not config.client and keystore.ensure(now_ms()):
            logger.info("founded the mesh %r in %s", config.mesh_name, config.home)
    claim = keystore.claim(config.node_id, client=config.client, now_ms=now_ms())
    return Membership(keystore, claim, invitation.addresses if invitation is not None else ())


def _enrol(keystore: Keystore, invitation: Invitation, config: NetworkConfig, is_abandoned: Callable[[], bool]) -> None:
    if keystore.is_member_by(invitation, now_ms()):
        if keystore.may_enrol_again(now_ms()):
            _renew(keystore, invitation, config, is_abandoned)
        else:
            logger.info("this machine is a member of the mesh %r already: it needs no join string", invitation.mesh)
        return
    _ask(keystore, invitation, config, is_abandoned)


def _renew(keystore: Keystore, invitation: Invitation, config: NetworkConfig, is_abandoned: Callable[[], bool]) -> None:
    """A member whose certificate still is good: it starts in any case, as the string may be the one of long ago."""
    try:
        _ask(keystore, invitation, config, is_abandoned)
    except InvitationError as error:
        logger.warning("the certificate of this machine was not renewed: %s", error)


def _ask(keystore: Keystore, invitation: Invitation, config: NetworkConfig, is_abandoned: Callable[[], bool]) -> None:
    name, keys = keystore.to_enrol(config.node_id)
    logger.info("asking %s to enrol this machine in the mesh %r", ", ".join(invitation.addresses), invitation.mesh)
    enrolled = enrol(invitation, name, keys, ENROL_TIMEOUT_S, is_abandoned)
    keystore.save_enrolled(enrolled)
    if config.node_id is not None and config.node_id != enrolled.name:
        raise KeystoreError(
            f"another machine of the mesh is called {config.node_id!r}, so this one has been let in as "
            f"{enrolled.name!r}: start it again with --name {enrolled.name}, or without --name"
        )

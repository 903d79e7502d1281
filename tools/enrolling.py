"""What ``zmesh-node --join`` says before it asks to be let in, which can take a while."""

from __future__ import annotations

from zmesh import NetworkConfig
from zmesh.joining import ENROL_TIMEOUT_S
from zmesh.model import now_ms
from zmesh.security import Keystore, parse_join_string
from zmesh.tools.reports import Report

__all__ = ["enrolling_report"]


def enrolling_report(config: NetworkConfig) -> Report | None:
    """Who will be asked; None where nobody needs to be. Raises ``InvitationError``, ``KeystoreError``."""
    if config.join is None:
        return None
    invitation = parse_join_string(config.join)
    keystore = Keystore(config.home, config.mesh or invitation.mesh)
    if keystore.is_member_by(invitation, now_ms()) and not keystore.may_enrol_again(now_ms()):
        return None
    addresses = list(invitation.addresses)
    line = (
        f"asking to be let into the mesh {invitation.mesh!r} (id {invitation.mesh_id}), for {ENROL_TIMEOUT_S:g} s at "
        f"most, at {', '.join(addresses)}"
    )
    fields = {"mesh": invitation.mesh, "mesh_id": invitation.mesh_id, "addresses": addresses}
    return Report("enrolling", [line], fields | {"timeout_s": ENROL_TIMEOUT_S})

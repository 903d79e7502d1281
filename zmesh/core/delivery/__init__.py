"""Delivery between two living nodes: every record acknowledged, in order, exactly once (docs/spec/03-data-plane.md).

``SendSession`` numbers and holds what was sent, ``ReceiveSession`` admits what comes, and ``Reassembly`` joins chunks.
"""

from zmesh.core.delivery.reassembly import Reassembly
from zmesh.core.delivery.receiver import ReceiveSession, Verdict
from zmesh.core.delivery.sender import BeginAnew, HeldFrame, Resend, SendProbe, SendSession
from zmesh.core.delivery.sessions import Belonging, belonging_of

__all__ = [
    "BeginAnew",
    "Belonging",
    "HeldFrame",
    "Reassembly",
    "ReceiveSession",
    "Resend",
    "SendProbe",
    "SendSession",
    "Verdict",
    "belonging_of",
]

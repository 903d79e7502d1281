"""Every failure zmesh reports, as one tree.

    NetworkError
    ├── UsageError                  you erred: the call, the configuration or the machine's set-up
    │   ├── ConfigurationError      a setting is wrong, unknown, or contradicts another
    │   │   ├── AddressInUse        another program holds the port
    │   │   └── KeystoreError       the key directory cannot be read, written or trusted
    │   │       └── NameTaken           (zmesh.security) the name belongs to another machine
    │   ├── InvitationError         a join string is malformed, expired, used, or of another mesh
    │   ├── NotJoined               the network is not joined (yet, or any more)
    │   ├── UnknownAgent            nobody on the mesh has that agent id or capability
    │   ├── AgentExists             this node has an agent with that id already
    │   └── MessageTooLarge         the payload exceeds ``max_message_bytes``
    ├── PeerError                   the peer erred, or is gone
    │   ├── PeerLost                the node went away before it acknowledged
    │   ├── RequestTimeout          no answer came before the deadline
    │   ├── HandlerFailed           the remote handler raised; carries what it said
    │   ├── Refused                 authentication or authorisation said no
    │   │   └── CertificateRefused      (zmesh.core.trust) with the word for why
    │   └── ProtocolViolation       bytes that the wire specification forbids
    └── InternalError               we erred: please report it

The three branches answer the reader's first question, "whose fault is it?"; code that only wants to carry on
catches ``NetworkError``.
"""

from __future__ import annotations

__all__ = [
    "AddressInUse",
    "AgentExists",
    "ConfigurationError",
    "HandlerFailed",
    "InternalError",
    "InvitationError",
    "KeystoreError",
    "MessageTooLarge",
    "NetworkError",
    "NotJoined",
    "PeerError",
    "PeerLost",
    "ProtocolViolation",
    "Refused",
    "RequestTimeout",
    "UnknownAgent",
    "UsageError",
    "check",
]


class NetworkError(Exception):
    """Base of everything zmesh raises on purpose."""


class UsageError(NetworkError):
    """The caller, the configuration or the machine's set-up is at fault."""


class ConfigurationError(UsageError):
    """A setting is wrong, unknown, or contradicts another; the text names it and says what to do."""


class AddressInUse(ConfigurationError):
    """Another program holds the port this node was told to listen on."""


class KeystoreError(ConfigurationError):
    """The key directory cannot be read, written or trusted."""


class InvitationError(UsageError):
    """A join string is malformed, expired, already used, or belongs to another mesh."""


class NotJoined(UsageError):
    """The network is not joined: call ``await network.join_network()`` first."""


class UnknownAgent(UsageError):
    """Nobody on the mesh has that agent id or capability."""


class AgentExists(UsageError):
    """This node has an agent with that id already."""


class MessageTooLarge(UsageError):
    """The payload exceeds ``NetworkConfig.max_message_bytes``."""


class PeerError(NetworkError):
    """The other side erred, or is gone."""


class PeerLost(PeerError):
    """The node went away before it acknowledged, or before it answered; whether it acted on the message is unknown."""


class RequestTimeout(PeerError):
    """No answer came before the request's deadline; whether the handler ran is unknown."""


class HandlerFailed(PeerError):
    """The remote handler raised.

    ``error_type`` is the name of its exception class, ``error_text`` what ``str`` said of it.
    """

    def __init__(self, error_type: str, error_text: str, agent_id: int | None = None) -> None:
        where = f"the handler of agent {agent_id}" if agent_id is not None else "the handler"
        super().__init__(f"{where} raised {error_type}: {error_text}" if error_text else f"{where} raised {error_type}")
        self.error_type = error_type
        self.error_text = error_text
        self.agent_id = agent_id

    def __reduce__(self) -> tuple[type[HandlerFailed], tuple[str, str, int | None]]:
        return type(self), (self.error_type, self.error_text, self.agent_id)


class Refused(PeerError):
    """Authentication or authorisation said no; the text says why."""


class ProtocolViolation(PeerError):
    """A peer sent bytes that the wire specification forbids.

    ``reason`` is a short fixed word used as the counter's name; the text has the detail.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class InternalError(NetworkError):
    """zmesh broke one of its own invariants. Please report it with the text."""


def check(condition: object, what: str) -> None:
    """Raise ``InternalError`` unless ``condition`` holds.

    Used for invariants instead of ``assert``, which ``python -O`` strips.
    """
    if not condition:
        raise InternalError(f"{what} (this is a bug in zmesh, please report it)")

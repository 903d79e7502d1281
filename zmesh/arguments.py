"""What users pass in, checked before it is sent.

A receiver refuses a frame that breaks the wire specification, with the connection it came over, again and again: so
what it would refuse must not get into a session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zmesh.core.membership.member import AgentRecord
from zmesh.errors import ConfigurationError, UsageError
from zmesh.health import HealthCheck
from zmesh.model import AgentMessage, MessagePriority, MessageType, is_agent_id
from zmesh.wire.control import check_agent as check_record
from zmesh.wire.limits import GROUP_NAME_BYTES, MAX_NUMBER, MAX_TTL_MS, MESSAGE_ID_BYTES

__all__ = ["check_agent", "check_terms", "checked_group", "checked_label"]


def check_agent(
    agent_id: int, capabilities: Sequence[str], handler: object, metadata: Mapping[str, str] | None, health: object
) -> None:
    """Raises ``ConfigurationError``."""
    if not is_agent_id(agent_id):
        raise ConfigurationError(f"agent id {agent_id!r} is not an integer from 0 to 2**64 - 1")
    if isinstance(capabilities, str) or not all(type(name) is str and name for name in capabilities):
        raise ConfigurationError(f"capabilities must be a list of non-empty strings, not {capabilities!r}")
    for key, value in (metadata or {}).items():
        if type(key) is not str or type(value) is not str:
            raise ConfigurationError(f"metadata maps strings to strings, unlike {key!r}: {value!r}")
    if handler is not None and not callable(handler):
        raise ConfigurationError(f"a handler is a function of one message, unlike {handler!r:.100}")
    if health is not None and not isinstance(health, HealthCheck):
        raise ConfigurationError(f"health is a zmesh.HealthCheck, unlike {health!r:.100}")
    check_record(AgentRecord(agent_id, tuple(capabilities), dict(metadata or {})))


def check_terms(from_agent: object, message_type: object, priority: object, ttl_ms: object) -> None:
    """Raises ``UsageError``."""
    if not is_agent_id(from_agent):
        raise UsageError(f"from_agent={from_agent!r} is not an integer from 0 to 2**64 - 1")
    if type(message_type) is not MessageType:
        raise UsageError(f"message_type={message_type!r} is not a zmesh.MessageType")
    if type(priority) is not MessagePriority:
        raise UsageError(f"priority={priority!r} is not a zmesh.MessagePriority")
    if type(ttl_ms) is not int or not 0 <= ttl_ms <= MAX_TTL_MS:
        raise UsageError(f"a ttl of {ttl_ms!r} is not an integer from 0 to {MAX_TTL_MS} ms; 0 is for no limit")


def checked_label(message: AgentMessage) -> tuple[str, int]:
    """The id and time its user gave a message. Raises ``UsageError``."""
    message_id, timestamp = message.message_id, message.timestamp
    if not _is_text(message_id, MESSAGE_ID_BYTES):
        raise UsageError(f"a message_id is text of 1 to {MESSAGE_ID_BYTES} bytes, unlike {message_id!r:.100}")
    if type(timestamp) is not int or not -MAX_NUMBER - 1 <= timestamp <= MAX_NUMBER:
        raise UsageError(f"timestamp={timestamp!r} is not an integer of 64 bits")
    return message_id, timestamp


def checked_group(group: str) -> str:
    """The name of a group. Raises ``UsageError``."""
    if not _is_text(group, GROUP_NAME_BYTES) or "\0" in group:
        raise UsageError(f"a group's name has 1 to {GROUP_NAME_BYTES} bytes and no NUL, unlike {group!r:.100}")
    return group


def _is_text(value: object, most_bytes: int) -> bool:
    """Whether it is a string that UTF-8 can say in so many bytes, and in one at least."""
    if type(value) is not str:
        return False
    try:
        return 0 < len(value.encode()) <= most_bytes
    except UnicodeEncodeError:  # half of a surrogate pair
        return False

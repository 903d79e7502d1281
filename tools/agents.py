"""The agents a node offers: its own ``echo``, and those of ``--agent MODULE:OBJECT``.

OBJECT is one of:

- a function, plain or ``async``, taking an ``AgentMessage`` and returning ``bytes`` (the answer to a request) or None.
  Its capability is its name;
- an instance with the method ``handle(message)`` of that form, and where wanted the attributes ``agent_id: int``,
  ``capabilities: Sequence[str]``, ``metadata: Mapping[str, str]``, ``health: zmesh.HealthCheck`` and the methods
  ``start(agent)``, called with its ``zmesh.Agent`` once the node has joined, and ``stop()``, called before it leaves,
  both plain or ``async``;
- a class whose call without arguments makes such an instance.

An agent that gives no ``agent_id`` gets one made from its node's name and its own, the same after every restart.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zmesh import Agent, AgentMessage, AgentNetwork, ConfigurationError, HealthCheck, UsageError

__all__ = ["Offer", "echo_offer", "free_agent_id", "load_offer", "offered"]

FIRST_ID, LAST_ID = 100_000, 999_999  # six digits can be typed; a thousand nodes rarely meet in 900,000 of them

_log = logging.getLogger("zmesh.node")

Answer = bytes | None
Handler = Callable[[AgentMessage], "Answer | Awaitable[Answer]"]


@dataclass(frozen=True, slots=True)
class Offer:
    """An agent that is not registered yet. ``name`` is what its id is made from where it has none."""

    name: str
    handler: Handler
    agent_id: int | None = None
    capabilities: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    health: HealthCheck | None = None
    start: Callable[[Agent], Awaitable[None] | None] | None = None
    stop: Callable[[], Awaitable[None] | None] | None = None


def echo_offer(seen: Callable[[AgentMessage], None]) -> Offer:
    """The node's own agent: it shows each message to ``seen`` and answers a request with its payload."""

    def echo(message: AgentMessage) -> bytes:
        seen(message)
        return message.payload

    return Offer("echo", echo, capabilities=("echo",))


def load_offer(spec: str) -> Offer:
    """The agent at ``MODULE:OBJECT``. Raises ``ConfigurationError`` with what to put right."""
    module_name, _, object_name = spec.partition(":")
    if not module_name or not object_name:
        raise ConfigurationError(f"--agent {spec!r} must be MODULE:OBJECT, as in my_agents:summarize")
    target = _find(_import(module_name, spec), object_name, spec)
    if inspect.isclass(target):
        target = _make(target, spec)
    handler = getattr(target, "handle", target)
    if not callable(handler):
        raise ConfigurationError(f"--agent {spec}: neither a function nor an object with a method handle(message)")
    _check_signature(handler, spec)
    return Offer(
        spec,
        handler,
        _agent_id(target, spec),
        _capabilities(target, spec),
        _metadata(target, spec),
        _health(target, spec),
        getattr(target, "start", None),
        getattr(target, "stop", None),
    )


@contextlib.asynccontextmanager
async def offered(network: AgentNetwork, offer: Offer) -> AsyncIterator[Agent]:
    """Register the agent and start it; stop it at the end. Raises ``ConfigurationError`` when its ``start`` fails."""
    agent_id = free_agent_id(network, offer.name) if offer.agent_id is None else offer.agent_id
    try:
        agent = await network.register_agent(
            agent_id, offer.capabilities, offer.handler, offer.metadata, health=offer.health
        )
    except UsageError as error:
        raise ConfigurationError(f"--agent {offer.name}: {error}") from error
    if offer.start is not None:
        try:
            await _finished(offer.start(agent))
        except Exception as error:
            raise ConfigurationError(f"--agent {offer.name}: start() raised {_said(error)}") from error
    try:
        yield agent
    finally:
        await _stop(offer)


async def _finished(result: Awaitable[None] | None) -> None:
    """Wait for what a coroutine function returned; a plain one has finished."""
    if inspect.isawaitable(result):
        await result


async def _stop(offer: Offer) -> None:
    try:
        if offer.stop is not None:
            await _finished(offer.stop())
    except Exception:  # noqa: BLE001 -- the other agents still have to stop, and the mesh to hear our goodbye
        _log.exception("--agent %s: stop() raised", offer.name)


def free_agent_id(network: AgentNetwork, name: str) -> int:
    """The id made from the node's name and this one, or the next that nobody we know of has."""
    span = LAST_ID - FIRST_ID + 1
    offset = zlib.crc32(f"{network.node_id}\n{name}".encode()) % span
    while network.registry.agent(FIRST_ID + offset) is not None:
        offset = (offset + 1) % span
    return FIRST_ID + offset


def _import(module_name: str, spec: str) -> object:
    # An installed console script has its own directory on the path and not the user's.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = f"there is no module {error.name!r}"
        raise ConfigurationError(f"--agent {spec}: {missing} in {here} or among the installed packages") from error
    except Exception as error:
        raise ConfigurationError(f"--agent {spec}: importing {module_name} raised {_said(error)}") from error


def _find(module: object, object_name: str, spec: str) -> Any:
    try:
        return getattr(module, object_name)
    except AttributeError:
        raise ConfigurationError(f"--agent {spec}: the module has no {object_name!r}") from None


def _make(target: Callable[[], Any], spec: str) -> Any:
    try:
        return target()
    except Exception as error:
        raise ConfigurationError(f"--agent {spec}: calling it without arguments raised {_said(error)}") from error


def _check_signature(handler: Callable[..., Any], spec: str) -> None:
    """A handler that cannot be called with one message would fail at each."""
    try:
        signature = inspect.signature(handler)
    except ValueError:  # a function in C may not say
        return
    try:
        signature.bind(object())
    except TypeError:
        raise ConfigurationError(
            f"--agent {spec}: it must take one argument, the message, and its signature is {signature}"
        ) from None


def _agent_id(target: object, spec: str) -> int | None:
    agent_id = getattr(target, "agent_id", None)
    if agent_id is None:
        return None
    if not isinstance(agent_id, int) or isinstance(agent_id, bool) or not 0 <= agent_id < 1 << 64:
        raise ConfigurationError(f"--agent {spec}: agent_id must be a whole number from 0 to 2**64 - 1")
    return agent_id


def _capabilities(target: object, spec: str) -> tuple[str, ...]:
    own_name = (target.__name__,) if inspect.isroutine(target) else ()
    capabilities: object = getattr(target, "capabilities", own_name)
    if not isinstance(capabilities, Collection) or isinstance(capabilities, str):
        capabilities = (None,)
    words = [word for word in capabilities if isinstance(word, str) and word]
    if len(words) != len(capabilities):
        raise ConfigurationError(f"--agent {spec}: capabilities must be a list of non-empty strings")
    return tuple(words)


def _metadata(target: object, spec: str) -> Mapping[str, str]:
    metadata = getattr(target, "metadata", {})
    if not isinstance(metadata, Mapping) or not all(
        isinstance(part, str) for item in metadata.items() for part in item
    ):
        raise ConfigurationError(f"--agent {spec}: metadata must map strings to strings")
    return metadata


def _health(target: object, spec: str) -> HealthCheck | None:
    health = getattr(target, "health", None)
    if health is not None and not isinstance(health, HealthCheck):
        raise ConfigurationError(f"--agent {spec}: health must be a zmesh.HealthCheck")
    return health


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

"""Whether an agent is well: its own check, asked again and again; one that fails puts it out of routing.

One failure is enough, and one pass: a check that wants more patience than that has it inside, where what is slow or
flickers is known. An agent with a check is not well until it has passed once, so that nothing reaches it by capability
before it is ready.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import Final

from zmesh.errors import ConfigurationError

__all__ = ["HealthCheck", "HealthMonitor"]

logger = logging.getLogger("zmesh.health")

STOP_PATIENCE_S: Final = 1.0  # a check that ignores being cancelled must not keep its node from leaving

Check = Callable[[], "Awaitable[bool | None] | bool | None"]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How an agent is asked whether it is well. Raises ``ConfigurationError``.

    ``check()``, plain or a coroutine function, raises or returns False where it is not; so does one that has not
    finished after ``timeout_s``, which is cancelled. It runs on the event loop, and a plain one holds the loop while it
    runs. The next begins ``interval_s`` after one has ended: there are never two at once.
    """

    check: Check
    interval_s: float = 5.0
    timeout_s: float = 2.0

    def __post_init__(self) -> None:
        if not callable(self.check):
            raise ConfigurationError(f"a health check is a function without arguments, unlike {self.check!r:.100}")
        for name, value in (("interval_s", self.interval_s), ("timeout_s", self.timeout_s)):
            if not 0 < value < inf:
                raise ConfigurationError(f"{name}={value!r} of a health check must be positive and finite")


class HealthMonitor:
    """Asks the agents of this node that have a check. ``changed`` is called soon after any has become well or unwell:
    once for all of one loop turn.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._telling: asyncio.Handle | None = None
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._well: dict[int, bool] = {}

    def is_well(self, agent_id: int) -> bool:
        """Whether its last check passed, or it has none."""
        return self._well.get(agent_id, True)

    def watch(self, agent_id: int, health: HealthCheck | None) -> None:
        """Ask an agent from now on; one without a check is well."""
        if health is not None:
            self._well[agent_id] = False
            asking = self._ask_on(agent_id, health)
            self._asking[agent_id] = self._loop.create_task(asking, name=f"zmesh health of agent {agent_id}")

    async def forget(self, agent_id: int) -> None:
        """Ask it no more, and cancel a check that runs."""
        self._well.pop(agent_id, None)
        await self._stop(agent_id)

    async def close(self) -> None:
        """Ask nobody any more."""
        await asyncio.gather(*map(self._stop, list(self._asking)))
        if self._telling is not None:
            self._telling.cancel()

    async def _stop(self, agent_id: int) -> None:
        asking = self._asking.pop(agent_id, None)
        if asking is None:
            return
        asking.cancel()
        _, running = await asyncio.wait((asking,), timeout=STOP_PATIENCE_S)
        if running:
            logger.warning("the health check of agent %d goes on although it was cancelled", agent_id)

    async def _ask_on(self, agent_id: int, health: HealthCheck) -> None:
        while True:
            checking = self._loop.create_task(_call(health.check))
            try:
                await asyncio.wait((checking,), timeout=health.timeout_s)
                self._take(agent_id, checking, health.timeout_s)
            finally:
                await _ended(checking)
            await asyncio.sleep(health.interval_s)

    def _take(self, agent_id: int, checking: asyncio.Task[bool], timeout_s: float) -> None:
        complaint, error = _complaint(checking, timeout_s)
        is_well = complaint is None
        if self._well[agent_id] is is_well:
            return
        self._well[agent_id] = is_well
        if is_well:
            logger.info("agent %d is well", agent_id)
        else:
            logger.warning("agent %d is not well: its check %s", agent_id, complaint, exc_info=error)
        if self._telling is None:
            self._telling = self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = None
        self._changed()


async def _call(check: Check) -> bool:
    result = check()
    if inspect.isawaitable(result):
        result = await result
    return result is None or bool(result)


async def _ended(checking: asyncio.Task[bool]) -> None:
    """Cancel a check that still runs; whatever it raises then is of no interest."""
    checking.cancel()
    await asyncio.wait((checking,))
    if not checking.cancelled():
        checking.exception()


def _complaint(checking: asyncio.Task[bool], timeout_s: float) -> tuple[str | None, BaseException | None]:
    """What is wrong with a check, or with the agent that it is of; None where nothing is."""
    if not checking.done():
        return f"has not finished within {timeout_s:g} s", None
    if checking.cancelled():
        return "was cancelled", None
    if (error := checking.exception()) is not None:
        return f"raised {type(error).__name__}", error
    return (None if checking.result() else "says no"), None

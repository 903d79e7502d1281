"""The clocks of a simulated host: a monotonic one that machines run by, and a wall clock that may be wrong.

Both follow true time at a rate of their own (drift). The monotonic clock never goes back; the wall clock has an error
to start with (skew) and may be set (step), either way.
"""

from __future__ import annotations

from zmesh.errors import check

__all__ = ["EPOCH_MS", "Clock"]

EPOCH_MS = 1_700_000_000_000  # true time 0 on a correct wall clock


class Clock:
    """Translates between true time, which is the simulation's, and what a host believes."""

    __slots__ = ("_last", "_origin", "_rate", "_since", "_wall_error_s")

    def __init__(self) -> None:
        self._rate = 1.0
        self._since = 0.0  # true time of the last change of rate
        self._origin = 0.0  # what the monotonic clock showed then
        self._last = 0.0  # what has been read: rounding must not take it back
        self._wall_error_s = 0.0

    @property
    def rate(self) -> float:
        """Seconds of this clock in a true second."""
        return self._rate

    def read(self, true_s: float) -> float:
        """What the monotonic clock shows at a true time, in seconds."""
        local = self._origin + (true_s - self._since) * self._rate
        if local < self._last:
            return self._last
        self._last = local
        return local

    def reached(self, local_s: float) -> None:
        """A timer for ``local_s`` has gone off: the clock shows at least that, whatever rounding says."""
        self._last = max(self._last, local_s)

    def true_time_of(self, local_s: float) -> float:
        """When the monotonic clock will show ``local_s``, unless its rate changes."""
        return self._since + (local_s - self._origin) / self._rate

    def wall_ms(self, true_s: float) -> int:
        """What the wall clock shows at a true time, in ms since the epoch."""
        return EPOCH_MS + round((self.read(true_s) + self._wall_error_s) * 1000)

    def drift(self, true_s: float, rate: float) -> None:
        """From now on this clock runs at ``rate``; 1.0 is right."""
        check(rate > 0.0, "a clock runs forwards")
        self._origin, self._since, self._rate = self.read(true_s), true_s, rate

    def step_wall(self, seconds: float) -> None:
        """Somebody sets the wall clock, forwards or back."""
        self._wall_error_s += seconds

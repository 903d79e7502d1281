"""How long messages take: distributions as tables of quantiles, so that any of them costs one look-up to draw from.

Values are rounded to nanoseconds: what the C library's logarithm gives in its last bit must not decide a simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

from zmesh.errors import check

__all__ = ["QUANTILES", "Delay"]

QUANTILES = 1024


@dataclass(frozen=True, slots=True)
class Delay:
    """A distribution of delays in seconds. ``table`` has the middles of 1024 equally likely intervals, ascending."""

    name: str
    table: tuple[float, ...] = field(repr=False)

    @classmethod
    def fixed(cls, seconds: float) -> Delay:
        """Always the same."""
        return cls(f"fixed({seconds})", (round(seconds, 9),) * QUANTILES)

    @classmethod
    def uniform(cls, least_s: float, most_s: float) -> Delay:
        """Anything between two bounds, equally likely."""
        return cls(f"uniform({least_s}, {most_s})", _table(lambda p: least_s + (most_s - least_s) * p))

    @classmethod
    def exponential(cls, least_s: float, mean_s: float) -> Delay:
        """``least_s`` and an exponential rest, with ``mean_s`` in all: a queue that is short as a rule."""
        rest_s = mean_s - least_s
        values = tuple([round(least_s + rest_s * quantile, 9) for quantile in _UNIT_EXPONENTIAL])
        return cls(f"exponential({least_s}, {mean_s})", _checked(values))

    @classmethod
    def lognormal(cls, median_s: float, sigma: float) -> Delay:
        """The long tail that round trips on a WAN have; ``sigma`` of 0.5 makes the 99th percentile 3.2 medians."""
        normal = NormalDist()
        return cls(f"lognormal({median_s}, {sigma})", _table(lambda p: median_s * math.exp(sigma * normal.inv_cdf(p))))

    @classmethod
    def measured(cls, samples_s: Sequence[float]) -> Delay:
        """As somewhere measured."""
        check(samples_s, "a distribution needs at least one sample")
        ordered = sorted(samples_s)
        return cls(f"measured({len(ordered)})", _table(lambda p: ordered[int(p * len(ordered))]))

    @property
    def least_s(self) -> float:
        """The shortest delay that can be drawn."""
        return self.table[0]


def _table(quantile: Callable[[float], float]) -> tuple[float, ...]:
    return _checked(tuple(round(quantile((i + 0.5) / QUANTILES), 9) for i in range(QUANTILES)))


def _checked(table: tuple[float, ...]) -> tuple[float, ...]:
    check(table[0] >= 0.0, "a message cannot arrive before it is sent")
    return table


_UNIT_EXPONENTIAL: Final = tuple(-math.log1p(-(i + 0.5) / QUANTILES) for i in range(QUANTILES))

"""A view: the members at one moment, immutable, with a digest that costs O(1) a change, and the rings derived from it.

Each ring orders the members by a hash of their name, so that every node derives the same neighbours from the same view,
and nobody chooses whom it watches. With four rings a node has about eight neighbours, and watching is mutual.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import lru_cache

from zmesh.core.membership.statements import Alive

__all__ = ["RINGS", "View", "ViewStore"]

RINGS = 4
STEWARDS = 3  # asked at a time
DIGEST_MASK = (1 << 64) - 1

_Ring = list[tuple[int, str]]


@lru_cache(maxsize=65536)
def _places(node_id: str) -> tuple[int, ...]:
    """Where a name stands on each ring."""
    digest = hashlib.blake2b(node_id.encode(), digest_size=8 * RINGS).digest()
    return tuple(int.from_bytes(digest[8 * i : 8 * i + 8], "big") for i in range(RINGS))


class View:
    """Members by name. Never changed; ``ViewStore.changed`` makes the next one."""

    __slots__ = ("_neighbours", "_rings", "digest", "members", "near_size")

    def __init__(self, members: Mapping[str, Alive], rings: tuple[_Ring, ...], digest: int, near_size: int) -> None:
        self.members = members
        self.digest = digest
        self.near_size = near_size
        self._rings = rings
        self._neighbours: dict[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self.members)

    @property
    def is_near(self) -> bool:
        """Whether everyone watches everyone."""
        return len(self.members) <= self.near_size

    def neighbours(self, node_id: str) -> tuple[str, ...]:
        """Those that watch the node, and that it watches, in an order that depends on the view alone."""
        found = self._neighbours.get(node_id)
        if found is None:
            found = self._neighbours[node_id] = self._find_neighbours(node_id)
        return found

    def stewards(self, attempt: int = 0) -> tuple[str, ...]:
        """Who puts changes of this view together; with each attempt the next ones. Another view has others."""
        ring = self._rings[0]
        start = bisect_left(ring, ((self.digest * 0x9E3779B97F4A7C15) & DIGEST_MASK, "")) + STEWARDS * attempt
        count = min(STEWARDS, len(ring))
        return tuple(ring[(start + i) % len(ring)][1] for i in range(count))

    def _find_neighbours(self, node_id: str) -> tuple[str, ...]:
        if self.is_near:
            return tuple(name for _, name in self._rings[0] if name != node_id)
        names: dict[str, None] = {}
        for ring, place in zip(self._rings, _places(node_id), strict=True):
            at = bisect_left(ring, (place, node_id))
            is_there = at < len(ring) and ring[at][1] == node_id
            names[ring[(at + is_there) % len(ring)][1]] = None
            names[ring[at - 1][1]] = None
        names.pop(node_id, None)
        return tuple(names)


class ViewStore:
    """Makes views. Equal views are one object while they are remembered, which a simulation of thousands needs."""

    def __init__(self, near_size: int, remembered: int = 16) -> None:
        self._near_size = near_size
        self._remembered = remembered
        self._views: dict[int, View] = {}

    def changed(self, view: View | None, put: Iterable[Alive], drop: Iterable[str]) -> View:
        """The view with these members put in, in place of those of the same name, and those dropped."""
        old = view.members if view is not None else {}
        put, drop = list(put), list(drop)
        digest = view.digest if view is not None else 0
        for node_id in drop:
            digest -= old[node_id].token
        for alive in put:
            previous = old.get(alive.node_id)
            digest += alive.token - (previous.token if previous is not None else 0)
        digest &= DIGEST_MASK
        known = self._views.get(digest)
        if known is None:
            known = self._remember(_make(view, put, drop, digest, self._near_size))
        return known

    def _remember(self, view: View) -> View:
        while len(self._views) >= self._remembered:
            del self._views[next(iter(self._views))]
        self._views[view.digest] = view
        return view


def _make(view: View | None, put: list[Alive], drop: list[str], digest: int, near_size: int) -> View:
    members = dict(view.members) if view is not None else {}
    for node_id in drop:
        del members[node_id]
    fresh = [alive.node_id for alive in put if alive.node_id not in members]
    for alive in put:
        members[alive.node_id] = alive
    rings = view._rings if view is not None else tuple([] for _ in range(RINGS))
    if fresh or drop:
        rings = tuple(_turn(ring, number, fresh, drop) for number, ring in enumerate(rings))
    return View(members, rings, digest, near_size)


def _turn(ring: _Ring, number: int, fresh: list[str], drop: list[str]) -> _Ring:
    """The ring without some and with others. Sorting a list that is sorted but for its end is nearly linear."""
    dropped = frozenset(drop)
    kept = [place for place in ring if place[1] not in dropped] if dropped else list(ring)
    kept.extend((_places(node_id)[number], node_id) for node_id in fresh)
    kept.sort()
    return kept

"""Who asks for the way to a node, and how often."""

from __future__ import annotations

from zmesh.runtime.way_finder import ASK_AGAIN_MAX_S, WayFinder


class Finder:
    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[tuple[float, str]] = []
        self.ways = WayFinder(lambda node_id: self.asked.append((self.now, node_id)), lambda: self.now)


def test_however_often_a_way_is_wanted_it_is_asked_for_at_once_and_then_less_and_less_often() -> None:
    finder = Finder()
    for tick in range(100 * 50):
        finder.now = tick / 50
        finder.ways.want("b")
    assert finder.asked == [(at, "b") for at in (0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 47.0, 63.0, 79.0, 95.0)]
    assert ASK_AGAIN_MAX_S == 16.0


def test_each_node_is_asked_for_by_itself_and_anew_once_it_was_found() -> None:
    finder = Finder()
    finder.ways.want("b")
    finder.ways.want("c")
    finder.ways.forget("b")
    finder.ways.want("b")
    finder.ways.want("c")
    assert finder.asked == [(0.0, "b"), (0.0, "c"), (0.0, "b")]


def test_nobody_who_does_not_want_a_way_any_more_is_asked_for() -> None:
    finder = Finder()
    finder.ways.want("b")
    finder.now = 1000.0
    finder.ways.want("c")
    assert finder.asked == [(0.0, "b"), (1000.0, "c")]

"""The timing wheel against a dict of deadlines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmesh.core.delivery import DeadlineWheel
from zmesh.core.delivery.deadlines import TICKS_PER_SECOND

TICK_S = 1 / TICKS_PER_SECOND


@pytest.fixture
def wheel() -> DeadlineWheel[str, int]:
    return DeadlineWheel()


def test_nothing_waits_at_first(wheel: DeadlineWheel[str, int]) -> None:
    assert wheel.next_deadline() is None
    assert wheel.expired(1e9) == []


@pytest.mark.parametrize("deadline", [0.0, 0.1, 0.58, 10.0, 1.0 - 1e-12, 123456.789])
def test_it_is_never_early_and_at_most_a_tick_late(wheel: DeadlineWheel[str, int], deadline: float) -> None:
    wheel.slot(deadline)["a"] = 1
    assert wheel.expired(deadline) == []
    assert wheel.expired(deadline + TICK_S) == [("a", 1)]
    assert wheel.expired(deadline + 1) == []


def test_something_expires_at_the_time_it_names() -> None:
    for hundredth in range(2000):
        wheel: DeadlineWheel[str, int] = DeadlineWheel()
        wheel.slot(hundredth / 100)["a"] = 1
        at = wheel.next_deadline()
        assert at is not None
        assert wheel.expired(at) == [("a", 1)]


def test_the_oldest_come_first(wheel: DeadlineWheel[str, int]) -> None:
    for key, deadline in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        wheel.slot(deadline)[key] = 0
    assert [key for key, _ in wheel.expired(10.0)] == ["a", "b", "c"]


def test_what_is_no_longer_wanted_is_gone(wheel: DeadlineWheel[str, int]) -> None:
    slot = wheel.slot(1.0)
    slot["a"] = slot["b"] = 1
    del slot["a"]
    assert wheel.expired(2.0) == [("b", 1)]


def test_a_deadline_in_the_past_expires_at_once(wheel: DeadlineWheel[str, int]) -> None:
    wheel.slot(5.0)["late"] = 1
    assert wheel.expired(100.0) == [("late", 1)]
    wheel.slot(5.0)["later"] = 2
    assert wheel.expired(100.0) == [("later", 2)]


TIMES = st.floats(0, 20, allow_nan=False)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), TIMES),
        st.tuples(st.just("remove"), st.floats(0, 1)),
        st.tuples(st.just("expire"), st.floats(0, 3)),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_it_does_what_a_dict_of_deadlines_does(steps: list[tuple[str, float]]) -> None:
    wheel: DeadlineWheel[int, float] = DeadlineWheel()
    reference: dict[int, tuple[float, dict[int, float]]] = {}
    now = 0.0
    for key, (what, value) in enumerate(steps):
        if what == "add":
            slot = wheel.slot(now + value)
            slot[key] = value
            reference[key] = (now + value, slot)
        elif what == "remove" and reference:
            gone = sorted(reference)[int(value * (len(reference) - 1))]
            del reference.pop(gone)[1][gone]
        elif what == "expire":
            now += value
            expired = [key for key, _ in wheel.expired(now)]
            due = {key for key, (deadline, _) in reference.items() if deadline <= now - TICK_S}
            may = {key for key, (deadline, _) in reference.items() if deadline < now}
            assert due <= set(expired) <= may
            assert len(set(expired)) == len(expired)
            for key in expired:
                del reference[key]
        following = wheel.next_deadline()
        assert (following is not None) or not reference

"""A seed decides everything, in every process; and a program that it does not decide is found out."""

from __future__ import annotations

import pytest

from zmesh.testing.commands import main
from zmesh.testing.replay import digests, replay
from zmesh.testing.subjects import SUBJECTS

SEEDS = range(2)


@pytest.mark.parametrize("subject", list(SUBJECTS))
def test_replay_is_exact_in_other_processes_with_other_hash_seeds(subject: str) -> None:
    assert replay(subject, SEEDS, 2, 1, lambda: None) == []
    one, other = digests(subject, SEEDS)
    assert one != other


def test_what_depends_on_the_order_of_a_set_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    disorderly = "tests.testing.disorderly:DisorderlySubject"
    assert main(["replay", disorderly, "--seeds", "2", "--replays", "4", "--jobs", "1"]) == 1
    assert "differs with PYTHONHASHSEED=" in capsys.readouterr().out

"""docs/testing.md: its example runs, and its lists are whole."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from zmesh.testing.commands import main
from zmesh.testing.faults import KINDS
from zmesh.testing.subjects import SUBJECTS

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")


def example() -> str:
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def load(source: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("mytests")
    monkeypatch.setitem(sys.modules, "mytests", module)
    exec(compile(source, "docs/testing.md", "exec"), module.__dict__)  # noqa: S102 - the page's own example
    return module


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    load(example(), monkeypatch).test_one_leads_when_all_is_well()


def test_the_example_fails_as_the_page_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forgetful = example().replace("self.heard[sender] = now", "self.heard[sender] = self.heard.get(sender, now)")
    broken = load(forgetful, monkeypatch)
    with pytest.raises(AssertionError, match=r"mytests:Election: liveness failure, .*: leaders: "):
        broken.test_one_leads_when_all_is_well()
    assert main(["run", "mytests:Election", "--seed", "0"]) == 1
    assert "again:  python -m zmesh.testing run mytests:Election --seed 0" in capsys.readouterr().out


def test_every_kind_of_fault_and_every_subject_is_on_the_page() -> None:
    tables = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    assert [kind for kind in KINDS if f"`{kind}`" not in tables] == []
    assert [name for name in SUBJECTS if f"`{name}`" not in PAGE] == []

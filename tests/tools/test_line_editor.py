"""The row being typed: keys in, lines out, and a view that fits the terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.tools.lineeditor import END_OF_INPUT, LineEditor, cells, fitting

LEFT, RIGHT, UP, DOWN = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B"
HOME, END, DELETE = "\x1b[H", "\x1b[F", "\x1b[3~"


def typed(keys: str) -> list[str]:
    return LineEditor("> ").feed(keys)


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        ("hello\n", ["hello"]),
        ("hello\r", ["hello"]),
        ("one\ntwo\nthr", ["one", "two"]),
        ("helo" + LEFT + "l\n", ["hello"]),
        ("helloo\x7f\n", ["hello"]),
        ("\x7fa\x08b\n", ["b"]),
        ("ello" + HOME + "h" + END + "!\n", ["hello!"]),
        ("ello\x01h\x05!\n", ["hello!"]),
        ("ab" + LEFT + LEFT + RIGHT + "x\n", ["axb"]),
        (LEFT + RIGHT + "a" + RIGHT + "b\n", ["ab"]),
        ("xab" + HOME + DELETE + "\n", ["ab"]),
        ("xab\x01\x04\n", ["ab"]),
        ("rubbish\x15ok\n", ["ok"]),
        ("keep lost" + LEFT * 5 + "\x0b\n", ["keep"]),
        ("send 9 hello\x17\x17\n", ["send "]),
        ("\t\x00\x1b[15~a\x1bb\n", ["a"]),  # keys without a meaning here
        ("grüße 漢字\n", ["grüße 漢字"]),
        ("\x04", [END_OF_INPUT]),
        ("a\x7f\x04", [END_OF_INPUT]),
        ("\n", [""]),
    ],
)
def test_keys_make_lines(keys: str, lines: list[str]) -> None:
    assert typed(keys) == lines


def test_up_and_down_walk_through_the_history() -> None:
    editor = LineEditor("> ")
    editor.feed("one\ntwo\n\n")
    assert editor.feed(UP + "\n") == ["two"]
    assert editor.feed(UP + UP + "\n") == ["one"]
    assert editor.feed(UP * 9 + DOWN * 9 + "new\n") == ["new"]


def test_a_line_typed_twice_is_once_in_the_history() -> None:
    editor = LineEditor("> ")
    editor.feed("one\ntwo\ntwo\n")
    assert editor.feed(UP + UP + "\n") == ["one"]


@given(st.lists(st.sampled_from(["a", "漢", LEFT, RIGHT, UP, DOWN, HOME, DELETE, "\x7f", "\x17", "\n"]), max_size=30))
def test_keys_mean_the_same_however_they_are_cut(keys: list[str]) -> None:
    text = "".join(keys)
    whole, cut = LineEditor("> "), LineEditor("> ")
    assert [line for character in text for line in cut.feed(character)] == whole.feed(text)
    assert cut.view(80) == whole.view(80)


def shown(view: str) -> str:
    return re.sub(r"\r|\x1b\[\d*[A-Z]", "", view)


def test_the_view_puts_the_cursor_back_into_its_place() -> None:
    editor = LineEditor("> ")
    editor.feed("漢字ab" + LEFT + LEFT + LEFT)
    assert editor.view(80) == "\r\x1b[K> 漢字ab\x1b[4D"


@given(st.text(st.characters(categories=("L", "N", "M")), max_size=60), st.integers(0, 60), st.integers(4, 30))
def test_the_view_never_wraps(text: str, lefts: int, columns: int) -> None:
    editor = LineEditor("> ")
    editor.feed(text + LEFT * lefts)
    assert cells(shown(editor.view(columns))) < columns


def test_a_long_row_shows_its_end() -> None:
    editor = LineEditor("> ")
    editor.feed("x" * 50 + "end")
    assert shown(editor.view(10)) == "> " + "x" * 4 + "end"


def test_fitting_never_cuts_a_wide_character() -> None:
    assert fitting("漢字", 3, keep_end=False) == "漢"
    assert fitting("漢字", 3, keep_end=True) == "字"
    assert fitting("", 3, keep_end=True) == ""

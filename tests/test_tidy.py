"""How zmesh is written, as far as a program can tell: lengths, names, clocks, and waivers with their reasons.

A limit that is exceeded has an entry below with the length it may have; entries may only shrink, and one that is not
needed any more must go (a ratchet).
"""

from __future__ import annotations

import ast
import importlib
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = [path for directory in ("zmesh", "patterns", "tools") for path in sorted((ROOT / directory).rglob("*.py"))]
OURS = [
    path for directory in ("perf", "examples", "tests") for path in sorted((ROOT / directory).rglob("*.py"))
] + SHIPPED

MAX_FILE_LINES = 300
MAX_TEST_FILE_LINES = 600
MAX_FUNCTION_LINES = 40
LONGER_FILES: dict[str, int] = {"zmesh/runtime/link.py": 375}  # to be split
LONGER_FUNCTIONS: dict[str, int] = {}

# Their sleeps are on the virtual clock of zmesh.testing.
SLEEP_IN_SIMULATED_TIME = {
    "tests/testing/test_loop.py",
    "tests/testing/test_coroutines.py",
    "tests/testing/test_plugin.py",
    "tests/testing/test_planes.py",
    "tests/testing/test_wide_simulated.py",
}

CLOCKS = {
    "time",
    "datetime",
    "monotonic",
    "perf_counter",
    "time_ns",
    "monotonic_ns",
    "perf_counter_ns",
    "sleep",
    "now_ms",
}
WAIVER = re.compile(
    r"#\s*(type: ignore|noqa|pyright: ignore)(?P<codes>\[[\w\s,-]+\]|:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?(?P<reason>.*)"
)
LEFT_FOR_LATER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{_name(path)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def _comments(path: Path) -> Iterator[str]:
    with path.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type == tokenize.COMMENT:
                yield f"{_name(path)}:{token.start[0]}: {token.string}"


def _against_limit(lengths: dict[str, int], limit: int, longer: dict[str, int]) -> list[str]:
    too_long = [
        f"{name}: {length} lines, at most {longer.get(name, limit)}"
        for name, length in lengths.items()
        if length > longer.get(name, limit)
    ]
    loose = [
        f"{name}: lower its entry to {lengths.get(name, 0)} or remove it"
        for name, allowed in longer.items()
        if lengths.get(name, 0) < allowed
    ]
    return too_long + loose


def test_files_stay_short() -> None:
    lengths = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in OURS}
    tests = {name: length for name, length in lengths.items() if name.startswith("tests/")}
    others = {name: length for name, length in lengths.items() if name not in tests}
    assert _against_limit(others, MAX_FILE_LINES, LONGER_FILES) + _against_limit(tests, MAX_TEST_FILE_LINES, {}) == []


def test_functions_stay_short() -> None:
    lengths = dict(function for path in SHIPPED for function in _functions(path))
    assert _against_limit(lengths, MAX_FUNCTION_LINES, LONGER_FUNCTIONS) == []


def test_the_ratchet_notices_both_ways() -> None:
    assert _against_limit({"a": 11}, 10, {}) == ["a: 11 lines, at most 10"]
    assert _against_limit({"a": 11}, 10, {"a": 12}) == ["a: lower its entry to 11 or remove it"]
    assert _against_limit({"a": 11}, 10, {"a": 11}) == []


def test_cores_read_no_clock_and_roll_no_dice() -> None:
    """Time and randomness are arguments of every core: this is what replays a simulation from its seed."""
    culprits = [
        f"{_name(path)}:{node.lineno}: {ast.unparse(node)}"
        for path in sorted((ROOT / "zmesh/core").rglob("*.py"))
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and _is_ambient(node.func)
    ]
    assert culprits == []


def _is_ambient(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in CLOCKS | {"hash", "id"}  # both differ from run to run
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return function.value.id in {"time", "datetime", "random", "os", "secrets", "uuid"}
    return False


@pytest.mark.parametrize("call", ["time.time()", "random.random()", "os.urandom(8)", "now_ms()", "hash(name)"])
def test_the_check_for_clocks_and_dice_works(call: str) -> None:
    expression = ast.parse(call, mode="eval").body
    assert isinstance(expression, ast.Call)
    assert _is_ambient(expression.func)


def _public_modules() -> list[str]:
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in SHIPPED]
    names = [name if name.startswith("zmesh") else f"zmesh.{name}" for name in names]
    return sorted(name.removesuffix(".__init__") for name in names if not re.search(r"\._(?!_)|\.__main__$", name))


@pytest.mark.parametrize("name", _public_modules())
def test_every_public_module_says_what_is_public(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring saying why it is there"
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    if not [node for node in ast.parse(source).body if not isinstance(node, ast.Expr)]:
        return  # an __init__ that holds its docstring alone
    exported = getattr(module, "__all__", None)
    assert exported is not None, f"{name} has no __all__"
    assert len(set(exported)) == len(exported)
    assert [entry for entry in exported if not hasattr(module, entry)] == []


def test_waivers_name_their_rule_and_their_reason() -> None:
    bare = []
    for path in SHIPPED:
        for comment in _comments(path):
            found = WAIVER.search(comment)
            if found and not (found["codes"] and found["reason"].strip(" #")):
                bare.append(comment)
    assert bare == []


def test_nothing_is_left_for_later() -> None:
    marks = [comment for path in OURS for comment in _comments(path) if LEFT_FOR_LATER.search(comment)]
    assert marks == []


def test_unit_tests_wait_for_conditions_and_not_for_time() -> None:
    """``sleep(0)`` gives others a turn; the grace of conftest.py is a wait for a condition."""
    slept = [
        f"{_name(path)}:{node.lineno}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "integration" not in path.parts and _name(path) not in SLEEP_IN_SIMULATED_TIME
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep", "sleep"}
        if not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]
    assert slept == []

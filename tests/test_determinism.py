"""What makes a simulation repeat itself exactly, enforced on the syntax tree of everything that runs in it.

Nothing in zmesh/core, zmesh/testing and what else runs there iterates a set (its order differs from process to
process), reads a clock, rolls dice of its own, or orders by ``id`` or ``hash``. Types are followed by names: a
variable, parameter or attribute that is somewhere said to be a set counts as one wherever it is named in that file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIMULATED = [path for name in ("core", "testing", "wire") for path in sorted((ROOT / "zmesh" / name).rglob("*.py"))]
# What an AgentNetwork consists of in a simulation. Of ``network`` and ``model`` a call for other purposes is ambient.
COMPONENTS = "agent arguments coordinator directory events messenger node planes receipt registry"
BELOW_THEM = (
    "audience carrier control_notices counters data_plane eager hearing large link link_table local mailbox outbox "
    "peer publishing receipts received receiving requests room subscription topic"
)
SIMULATED += [ROOT / f"zmesh/{name}.py" for name in COMPONENTS.split()]
SIMULATED += [ROOT / f"zmesh/runtime/{name}.py" for name in BELOW_THEM.split()]
# These run simulations and are in none: they count CPU seconds, cores and processes.
OUTSIDE = {
    "zmesh/testing/commands.py",
    "zmesh/testing/replay.py",
    "zmesh/testing/report.py",
    "zmesh/testing/soak.py",
}

AMBIENT_MODULES = {"time", "datetime", "secrets", "uuid", "os", "socket", "threading", "multiprocessing", "subprocess"}
ORDERLESS_CALLS = {"id", "hash", "urandom", "getrandbits", "now_ms", "monotonic", "perf_counter"}
SET_TYPES = {"set", "frozenset", "Set", "AbstractSet", "MutableSet", "KeysView"}
SET_METHODS = {"union", "intersection", "difference", "symmetric_difference"}
IN_ORDER_OF_ITS_ARGUMENT = {"list", "tuple", "iter", "next", "enumerate", "zip", "map", "filter", "reversed", "deque"}
IN_ORDER_OF_ITS_ARGUMENT |= {
    "join",
    "extend",
    "fromkeys",
    "chain",
    "from_iterable",
    "choice",
    "sample",
    "shuffle",
    "repr",
}


def findings(source: str) -> list[str]:
    """What this source does that another process might do otherwise."""
    tree = ast.parse(source)
    sets = set(_names_of_sets(tree))
    culprits = [node for node in ast.walk(tree) if _is_ambient(node) or _depends_on_order(node, sets)]
    return [f"{_line(node)}: {ast.unparse(node)[:80]}" for node in culprits]


def _line(node: ast.AST) -> int:
    return node.iter.lineno if isinstance(node, ast.comprehension) else int(getattr(node, "lineno", 0))


def _names_of_sets(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and _is_set_type(node.annotation):
            yield _name(node.target)
        elif isinstance(node, ast.arg) and node.annotation is not None and _is_set_type(node.annotation):
            yield node.arg
        elif isinstance(node, ast.FunctionDef) and node.returns is not None and _is_set_type(node.returns):
            yield node.name
        elif isinstance(node, ast.Assign) and _is_set(node.value, set()):
            yield from (_name(target) for target in node.targets)


def _is_set_type(annotation: ast.expr) -> bool:
    """``set[str]``, and ``set[str] | None``; not ``dict[str, set[str]]``."""
    if isinstance(annotation, ast.BinOp):
        return _is_set_type(annotation.left) or _is_set_type(annotation.right)
    if isinstance(annotation, ast.Subscript):
        name = _name(annotation.value)
        return _is_set_type(annotation.slice) if name in {"ClassVar", "Final"} else name in SET_TYPES
    return _name(annotation) in SET_TYPES


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_set(node: ast.expr, sets: set[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Call):
        name = _name(node.func)
        return name in SET_TYPES | SET_METHODS or name in sets
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return any(_is_set(side, sets) or _is_keys(side) for side in (node.left, node.right))
    if isinstance(node, ast.IfExp):
        return _is_set(node.body, sets) or _is_set(node.orelse, sets)
    return _name(node) in sets


def _is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _name(node.func) in {"keys", "items"}


def _depends_on_order(node: ast.AST, sets: set[str]) -> bool:
    if isinstance(node, ast.For | ast.comprehension):
        return _is_set(node.iter, sets)
    if isinstance(node, ast.Starred | ast.YieldFrom):
        return _is_set(node.value, sets)
    if isinstance(node, ast.FormattedValue):
        return _is_set(node.value, sets)
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute) and node.func.attr == "pop" and not node.args:
        return _is_set(node.func.value, sets)
    return _name(node.func) in IN_ORDER_OF_ITS_ARGUMENT and any(_is_set(argument, sets) for argument in node.args)


def _is_ambient(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        name, owner = _name(node.func), node.func.value if isinstance(node.func, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id == "random":
            return name != "Random"  # the module's own functions share one generator, seeded by the system
        if isinstance(owner, ast.Name) and owner.id in AMBIENT_MODULES:
            return True
        return owner is None and (name in ORDERLESS_CALLS or (name == "Random" and not node.args))
    if isinstance(node, ast.keyword):
        return node.arg == "key" and _name(node.value) in {"id", "hash"}
    if isinstance(node, ast.ImportFrom):
        return node.module in AMBIENT_MODULES or (
            node.module == "random" and [a.name for a in node.names] != ["Random"]
        )
    return False


def test_nothing_simulated_depends_on_what_differs_between_processes() -> None:
    inside = [path for path in SIMULATED if path.relative_to(ROOT).as_posix() not in OUTSIDE]
    assert len(inside) > 30
    found = {path.relative_to(ROOT).as_posix(): findings(path.read_text(encoding="utf-8")) for path in inside}
    assert {name: culprits for name, culprits in found.items() if culprits} == {}


def test_what_is_outside_is_there_and_needs_to_be() -> None:
    for name in OUTSIDE & {path.relative_to(ROOT).as_posix() for path in SIMULATED}:
        assert findings((ROOT / name).read_text(encoding="utf-8")), f"{name} can be inside"


@pytest.mark.parametrize(
    "source",
    [
        "for x in {1, 2}: pass",
        "for x in set(y): pass",
        "peers: set[str] = set()\nfor x in peers: pass",
        "class A:\n def f(self):\n  self.peers = {1}\n def g(self):\n  return [x for x in self.peers]",
        "def f(peers: frozenset[str] | None) -> list[str]:\n return list(peers)",
        "def f(a: set[str], b: set[str]):\n return [*(a - b)]",
        "def f(a: set[str]):\n return ', '.join(a)",
        "def f(a: set[str]):\n return a.pop()",
        "def f(a: set[str]):\n return f'{a}'",
        "def f(a: set[str]):\n yield from a",
        "def f(a: set[str]):\n return {x: 1 for x in a.union(b)}",
        "def f(a: ClassVar[set[str]]):\n return next(iter(a))",
        "import random\nrandom.random()",
        "import random\nrandom.Random.seed\nrandom.choice([1])",
        "from random import choice",
        "x = Random()",
        "import time\ntime.time()",
        "from time import monotonic",
        "import os\nos.urandom(8)",
        "sorted(y, key=id)",
        "hash('x')",
        "for x in a.keys() - b: pass",
        "def peers() -> set[str]: ...\nfor x in peers(): pass",
    ],
)
def test_each_way_to_differ_is_found(source: str) -> None:
    assert findings(source)


@pytest.mark.parametrize(
    "source",
    [
        "peers: set[str] = set()\nfor x in sorted(peers): pass",
        "peers: set[str] = set()\n'a' in peers and len(peers) and min(peers)",
        "peers: dict[str, set[str]] = {}\nfor x in peers: pass",
        "for x in {1: 2}: pass",
        "a | b\nfor x in a | b: pass",
        "import random\nx = random.Random(7).random()",
        "peers = [1]\npeers.pop()",
    ],
)
def test_what_is_the_same_everywhere_is_left_alone(source: str) -> None:
    assert findings(source) == []

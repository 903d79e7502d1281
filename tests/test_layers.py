"""The layers of ARCHITECTURE.md: who may import whom, inside and outside.

import-linter checks the contracts in setup.cfg. What a list of forbidden names cannot say, "nothing but these", is
checked here on the syntax tree. Each contract is also broken on purpose: a check that has never failed proves nothing.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "zmesh"

PURE = frozenset(
    {"__future__", "abc", "bisect", "collections", "contextlib", "dataclasses", "enum", "functools", "hashlib", "heapq"}
    | {"itertools", "math", "operator", "re", "struct", "types", "typing"}
)
# What each layer may import from outside zmesh: a set of roots, where * is the standard library.
OUTSIDE: dict[str, frozenset[str]] = {
    "errors.py": PURE,
    "version.py": PURE,
    "model.py": PURE | {"contextvars", "msgspec", "os", "time"},  # now_ms and message ids are the user's convenience
    "core": PURE,
    "wire": PURE | {"msgspec", "msgpack"},
    "address.py": PURE | {"ipaddress"},
    "config.py": frozenset({"*"}),
    "security": frozenset({"*", "msgspec", "nacl"}),
    "discovery": frozenset({"*", "ifaddr", "zeroconf"}),
    "runtime": frozenset({"*", "msgspec", "zmq"}),
    "patterns": frozenset({"*", "zmq"}),
    "tools": frozenset({"*", "msgspec"}),
    "testing": frozenset({"*", "msgspec", "pytest"}),
}
COMPOSITION = frozenset({"*", "msgspec", "uvloop", "zmq"})  # the four components and what ties them together
OUTSIDE |= {path.name: COMPOSITION for path in sorted(PACKAGE.glob("[a-z]*.py")) if path.name not in OUTSIDE}
BROKEN_ON_PURPOSE = {
    "the layers, as ARCHITECTURE.md draws them": ("wire/planted.py", "import zmesh.runtime"),
    "errors, model, address and config import msgspec alone": ("errors.py", "import socket"),
    "protocol cores do no input or output, and read no clock": ("core/planted.py", "import time"),
    "the codec imports msgpack and msgspec alone": ("wire/planted_too.py", "import zmq"),
    "keys and certificates know no sockets": ("security/planted.py", "import asyncio"),
    "discovery knows neither ZeroMQ nor keys": ("discovery/planted.py", "import nacl"),
    "the simulator knows no sockets": ("testing/planted.py", "import socket"),
    "the simulator needs no ZeroMQ, whatever it imports": ("runtime/link.py", "import zmesh.runtime.transport"),
    "patterns work without a mesh": ("patterns/planted.py", "import zmesh.config"),
    "the programs use the public API alone (zmesh and zmesh.security)": (
        "tools/planted.py",
        "import zmesh.core.planted",
    ),
}


def _files(layer: str) -> list[Path]:
    path = PACKAGE / layer
    return [path] if path.suffix else sorted(path.rglob("*.py"))


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each imported module's dotted name, and whether it is for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node in for_types


def _is_allowed(root: str, allowed: frozenset[str]) -> bool:
    return root == "zmesh" or root in allowed or ("*" in allowed and root in sys.stdlib_module_names)


def _lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)


def test_the_contracts_of_setup_cfg_hold() -> None:
    done = _lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_contract_fails_when_it_is_broken(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("zmesh", "patterns", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file, line in BROKEN_ON_PURPOSE.values():
        with (tmp_path / "zmesh" / file).open("a", encoding="utf-8") as planted:
            planted.write(f"\n{line}\n")
    done = _lint_imports(tmp_path)
    assert done.returncode != 0
    broken = set(re.findall(r"^(.+) BROKEN(?: \(.*\))?$", done.stdout, re.MULTILINE))
    assert broken == set(BROKEN_ON_PURPOSE), done.stdout + done.stderr


@pytest.mark.parametrize("layer", OUTSIDE)
def test_a_layer_imports_only_what_it_may_from_outside(layer: str) -> None:
    files = _files(layer)
    assert files, f"zmesh/{layer} has no files: was a link or a directory lost?"
    strangers = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in files
        for name, for_types in _imports(path)
        if not _is_allowed(name.partition(".")[0], OUTSIDE[layer]) and not (name == "random" and for_types)
    ]
    assert strangers == []


def test_no_module_below_the_programs_imports_the_package_itself() -> None:
    """``import zmesh`` runs ``zmesh/__init__.py``, which imports everything: from below that is a cycle."""
    inner = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]  # links not followed
    cycles = [str(path.relative_to(PACKAGE)) for path in inner if "zmesh" in {name for name, _ in _imports(path)}]
    assert cycles == []

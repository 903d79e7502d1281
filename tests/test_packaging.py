"""What a user installs: ``zmesh`` and nothing else, whole, from an sdist, a wheel or an editable checkout.

patterns/ and tools/ are directories at the top that import as zmesh.patterns and zmesh.tools through two committed
links. Everything that follows links differently (archives, wheels, path files, running from the root) is tried here.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 300
MODULES = {"pynacl": "nacl", "pyzmq": "zmq"}  # by distribution, where they differ
IMPORT_ALL = (
    "import zmesh, zmesh.patterns, zmesh.tools, zmesh.tools.node, zmesh.tools.cli, pathlib; "
    "print(pathlib.Path(zmesh.__file__).parent); "
    "print((pathlib.Path(zmesh.__file__).parent / 'py.typed').exists())"
)


def _run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def _succeed(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = _run(*command, cwd=cwd, **environment)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _version() -> str:
    """As the source says it, without importing: what is under test here is whether importing works."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "zmesh/version.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def _listed_packages() -> list[str]:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    return settings["options"]["packages"].split()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy as a fresh clone has it: a build writes into its tree, and must find nothing left by an earlier one."""
    target = tmp_path_factory.mktemp("copy") / "checkout"
    leftovers = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist"
    )
    return Path(shutil.copytree(ROOT, target, symlinks=True, ignore=leftovers))


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was built from that sdist."""
    output = tmp_path_factory.mktemp("dist")
    _succeed(sys.executable, "-m", "build", "--no-isolation", "--outdir", output, cwd=checkout)
    return output


def _make_environment(directory: Path) -> Path:
    """A fresh virtual environment that finds the dependencies where this one has them; its python."""
    _succeed(sys.executable, "-m", "venv", "--without-pip", directory, cwd=directory.parent)
    return directory / "bin" / "python"


def _site_packages(python: Path) -> Path:
    return Path(
        _succeed(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=python.parent).strip()
    )


def _borrow_dependencies(python: Path) -> None:
    ours = Path(_succeed(sys.executable, "-c", "import zmq; print(zmq.__file__)", cwd=ROOT).strip()).parents[1]
    (_site_packages(python) / "dependencies.pth").write_text(f"{ours}\n", encoding="utf-8")


def _install(python: Path, *what: str | Path, cwd: Path) -> None:
    _succeed(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", *what, cwd=cwd)


def test_every_package_of_the_tree_is_listed() -> None:
    directories = [Path("zmesh"), *(path.relative_to(ROOT) for path in (ROOT / "zmesh").rglob("*") if path.is_dir())]
    linked = [
        Path("zmesh") / name / path.relative_to(ROOT / name)
        for name in ("patterns", "tools")
        for path in (ROOT / name).rglob("*")
        if path.is_dir()
    ]
    names = {
        ".".join(path.parts)
        for path in [*directories, *linked, Path("zmesh/patterns"), Path("zmesh/tools")]
        if "__pycache__" not in path.parts
    }
    assert sorted(_listed_packages()) == sorted(names)
    missing = [name for name in _listed_packages() if not (ROOT / name.replace(".", "/") / "__init__.py").is_file()]
    assert missing == []


def test_what_is_imported_is_what_is_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.match(r"[\w-]+", line)[0] for line in [*project["dependencies"], "uvloop", "pytest"]}  # type: ignore[index]
    nodes = [
        node
        for directory in ("zmesh", "patterns", "tools")
        for path in (ROOT / directory).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]
    imported = {alias.name.partition(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module).partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    outside = {name for name in imported if name not in sys.stdlib_module_names} - {"zmesh"}
    assert {MODULES.get(name, name) for name in required} >= outside
    assert {MODULES.get(name, name) for name in required} - {"uvloop"} <= outside  # pytest: for its plugin alone


def test_the_links_are_relative_links() -> None:
    assert (ROOT / "zmesh/patterns").readlink() == Path("../patterns")
    assert (ROOT / "zmesh/tools").readlink() == Path("../tools")


def test_the_wheel_holds_zmesh_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    info = f"zmesh_agents-{_version()}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"zmesh", info}
    assert {f"{package.replace('.', '/')}/__init__.py" for package in _listed_packages()} <= set(names)
    assert "zmesh/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names


def test_the_sdist_holds_files_in_place_of_the_links(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    for package in _listed_packages():
        assert members[f"{package.replace('.', '/')}/__init__.py"].isfile()
    assert not [name for name, member in members.items() if member.issym() or member.islnk()]


def test_the_wheel_works_where_it_is_installed(built: Path, tmp_path: Path) -> None:
    python = _make_environment(tmp_path / "env")
    (wheel,) = built.glob("*.whl")
    _install(python, wheel, cwd=tmp_path)
    put_there = {path.name for path in _site_packages(python).iterdir() if not path.name.endswith(".dist-info")}
    assert put_there == {"zmesh"}
    _borrow_dependencies(python)
    where, typed = _succeed(python, "-c", IMPORT_ALL, cwd=tmp_path).split()
    assert Path(where) == _site_packages(python) / "zmesh"
    assert typed == "True"
    for program in ("zmesh", "zmesh-node"):
        assert "usage" in _succeed(python.with_name(program), "--help", cwd=tmp_path).lower()


def test_an_editable_checkout_works_and_type_checkers_see_it(checkout: Path, tmp_path: Path) -> None:
    python = _make_environment(tmp_path / "env")
    _borrow_dependencies(python)
    _install(python, "--no-build-isolation", "--editable", checkout, cwd=tmp_path)
    where, _ = _succeed(python, "-c", IMPORT_ALL, cwd=tmp_path).split()
    assert Path(where) == checkout / "zmesh"
    user = tmp_path / "user.py"
    user.write_text("import zmesh.tools.node\nreveal_type(zmesh.tools.node.main)\n", encoding="utf-8")
    seen = _succeed(sys.executable, "-m", "mypy", "--python-executable", python, "--strict", user, cwd=tmp_path)
    assert "-> int" in seen.replace("builtins.int", "int")


@pytest.mark.parametrize("name", ["patterns", "tools"])
def test_the_directories_do_not_import_under_their_own_names(name: str) -> None:
    done = _run(sys.executable, "-c", f"import {name}", cwd=ROOT)
    assert done.returncode != 0
    assert f"ImportError: import zmesh.{name} instead" in done.stderr


def test_a_lost_link_fails_the_build(checkout: Path, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    shutil.copytree(checkout, lost, symlinks=True)
    (lost / "zmesh/patterns").unlink()
    done = _run(sys.executable, "-m", "build", "--no-isolation", "--wheel", cwd=lost)
    assert done.returncode != 0
    assert "zmesh/patterns" in done.stdout + done.stderr

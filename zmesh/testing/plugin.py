"""For pytest: tests in the simulation, once for each seed.

``pytest_plugins = ["zmesh.testing.plugin"]`` in a conftest.py switches it on. A test that takes the fixture
``simulation`` runs once for each of the seeds of ``@pytest.mark.simulated(seeds=20)``; ``--zmesh-seeds`` and
``--zmesh-first-seed`` change which. A coroutine function directs the scenario: ``asyncio.sleep`` in it takes simulated
time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator

import pytest

from zmesh.testing.coroutines import direct
from zmesh.testing.report import commit
from zmesh.testing.simulation import Simulation

__all__ = [
    "cut",
    "heal",
    "kill",
    "lose",
    "pause",
    "pytest_addoption",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_pyfunc_call",
    "pytest_runtest_makereport",
    "restart",
    "resume",
    "simulation",
]

DEFAULT_SEEDS = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--zmesh-seeds`` and ``--zmesh-first-seed``."""
    group = parser.getgroup("zmesh simulation")
    group.addoption("--zmesh-seeds", type=int, help="how many seeds each simulated test gets, in place of what it says")
    group.addoption("--zmesh-first-seed", type=int, default=0, help="the first of them (default 0)")


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line("markers", "simulated(seeds=10): run in the simulation once for each of so many seeds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each seed."""
    if "simulation" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("simulated")
    said = marker.kwargs.get("seeds", DEFAULT_SEEDS) if marker is not None else DEFAULT_SEEDS
    count = metafunc.config.getoption("--zmesh-seeds") or said
    first = metafunc.config.getoption("--zmesh-first-seed")
    seeds = range(first, first + count)
    metafunc.parametrize("simulation", seeds, indirect=True, ids=[f"seed{seed}" for seed in seeds])


@pytest.fixture
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """The world of this test's seed."""
    found = Simulation(request.param)
    yield found
    found.close()


@pytest.fixture
def cut(simulation: Simulation) -> Callable[..., None]:
    """``cut("a", "b")``: these two cut off from all others, until ``heal()``."""
    return simulation.cut


@pytest.fixture
def lose(simulation: Simulation) -> Callable[..., None]:
    """``lose(0.2, "a")``: a fifth of what this one sends is lost, until ``heal()``; without a name, of all."""
    return simulation.lose


@pytest.fixture
def pause(simulation: Simulation) -> Callable[..., None]:
    """``pause("a")``: stopped where it stands, until ``resume("a")`` or ``heal()``."""
    return simulation.pause


@pytest.fixture
def resume(simulation: Simulation) -> Callable[..., None]:
    """``resume("a")``: it goes on."""
    return simulation.resume


@pytest.fixture
def kill(simulation: Simulation) -> Callable[..., None]:
    """``kill("a")``: its program ends at once, with no ``finally``; ``restart`` or ``heal`` start it again."""
    return simulation.kill


@pytest.fixture
def restart(simulation: Simulation) -> Callable[..., None]:
    """``restart("a")``: its program runs anew, on the same disk."""
    return simulation.restart


@pytest.fixture
def heal(simulation: Simulation) -> Callable[[], None]:
    """``heal()``: the end of all that goes wrong; what is down is started again."""
    return simulation.heal


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function on the virtual clock."""
    found = pyfuncitem.funcargs.get("simulation")
    if not isinstance(found, Simulation) or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames  # as pytest itself does it: the arguments, not every fixture in use
    direct(found.world, pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say what the seed did, and how to see it again."""
    report = yield
    found = getattr(item, "funcargs", {}).get("simulation")
    if report.when == "call" and report.failed and isinstance(found, Simulation):
        again = f"commit {commit()}\nagain: pytest '{item.nodeid}' --zmesh-first-seed {found.seed} --zmesh-seeds 1"
        report.sections.append(("simulation", f"{found.describe()}\n{again}"))
    return report

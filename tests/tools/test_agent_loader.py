"""``--agent MODULE:OBJECT``: what OBJECT may be, and what a wrong one gets."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zmesh import AgentMessage, ConfigurationError
from zmesh.tools.agents import Offer, echo_offer, load_offer

Load = Callable[[str, str], Offer]
_numbers = itertools.count()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Loads ``OBJECT`` from a module of this text, written into the current directory."""
    monkeypatch.chdir(tmp_path)
    before_path, before_modules = list(sys.path), set(sys.modules)

    def load_from(text: str, name: str) -> Offer:
        module = f"users_agents_{next(_numbers)}"
        (tmp_path / f"{module}.py").write_text(text, encoding="utf-8")
        return load_offer(f"{module}:{name}")

    yield load_from
    sys.path[:] = before_path
    for module in set(sys.modules) - before_modules:
        del sys.modules[module]


MESSAGE = AgentMessage(from_agent=1, to_agent=2, payload=b"hi")


def test_an_async_function_is_an_agent_with_its_name_as_capability(load: Load) -> None:
    offer = load("async def shout(message):\n    return message.payload.upper()", "shout")
    answer = offer.handler(MESSAGE)
    assert not isinstance(answer, bytes | None)

    async def wait() -> bytes | None:
        return await answer

    assert asyncio.run(wait()) == b"HI"
    assert (offer.capabilities, offer.agent_id, offer.start, offer.stop) == (("shout",), None, None, None)


def test_a_plain_function_is_an_agent_too(load: Load) -> None:
    assert load("def shout(message): return message.payload.upper()", "shout").handler(MESSAGE) == b"HI"


FULL = """
class Worker:
    agent_id = 7
    capabilities = ["sum", "count"]
    metadata = {"model": "x"}
    def handle(self, message): return b"done"
    async def start(self, agent): ...
    async def stop(self): ...
worker = Worker()
"""


@pytest.mark.parametrize("name", ["Worker", "worker"])
def test_a_class_or_an_instance_may_say_more(load: Load, name: str) -> None:
    offer = load(FULL, name)
    assert (offer.agent_id, offer.capabilities, offer.metadata) == (7, ("sum", "count"), {"model": "x"})
    assert offer.handler(MESSAGE) == b"done"
    assert offer.start is not None
    assert offer.stop is not None


def test_an_agent_may_have_a_health_check(load: Load) -> None:
    offer = load(
        "import zmesh\n" + FULL.replace("    agent_id", "    health = zmesh.HealthCheck(bool)\n    agent_id"), "Worker"
    )
    assert offer.health is not None
    assert offer.health.check is bool


def test_a_class_needs_no_more_than_a_handler(load: Load) -> None:
    offer = load("class Worker:\n    def handle(self, message): return None", "Worker")
    assert (offer.agent_id, offer.capabilities, offer.metadata, offer.start) == (None, (), {}, None)


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("", "worker", "the module has no 'worker'"),
        ("worker = 5", "worker", "neither a function nor an object with a method handle(message)"),
        ("raise ValueError('no key')", "worker", "raised ValueError: no key"),
        ("import not_installed_here", "worker", "there is no module 'not_installed_here' in"),
        ("def worker(", "worker", "raised SyntaxError"),
        ("class Worker:\n    def __init__(self, key): ...", "Worker", "calling it without arguments raised TypeError"),
        (FULL.replace("= 7", "= 'seven'"), "Worker", "agent_id must be a whole number"),
        (FULL.replace("= 7", "= -1"), "Worker", "agent_id must be a whole number"),
        (FULL.replace('["sum", "count"]', "'sum'"), "Worker", "capabilities must be a list of non-empty strings"),
        (FULL.replace('["sum", "count"]', "5"), "Worker", "capabilities must be a list of non-empty strings"),
        (FULL.replace('"sum"', '""'), "Worker", "capabilities must be a list of non-empty strings"),
        ("def worker(a, b): ...", "worker", "it must take one argument, the message, and its signature is (a, b)"),
        (FULL.replace("self, message", "self"), "Worker", "it must take one argument, the message"),
        (
            FULL.replace("    agent_id", "    health = True\n    agent_id"),
            "Worker",
            "health must be a zmesh.HealthCheck",
        ),
        (FULL.replace('{"model": "x"}', "{'size': 5}"), "Worker", "metadata must map strings to strings"),
    ],
)
def test_a_wrong_agent_is_one_sentence(load: Load, text: str, name: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text, name)
    assert said in str(caught.value)
    assert "--agent users_agents_" in str(caught.value)


@pytest.mark.parametrize("spec", ["module", "module:", ":object", ""])
def test_a_spec_names_module_and_object(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="must be MODULE:OBJECT, as in my_agents:summarize"):
        load_offer(spec)


def test_a_missing_module_says_where_was_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        load_offer("nowhere_to_be_found:x")
    assert f"there is no module 'nowhere_to_be_found' in {tmp_path}" in str(caught.value)


def test_echo_shows_and_answers() -> None:
    seen: list[AgentMessage] = []
    assert echo_offer(seen.append).handler(MESSAGE) == b"hi"
    assert seen == [MESSAGE]

"""Requests: the answer, the handler's own error, a deadline, or the loss of the node; one of them always comes."""

from __future__ import annotations

import asyncio
import contextvars
from pathlib import Path
from typing import NoReturn

import pytest

import zmesh
from tests.integration.meshes import PATIENCE_S, Mesh, agents, in_loop, read, until

here = contextvars.ContextVar("here", default="nowhere")


async def sleeps(message: zmesh.AgentMessage) -> bytes:
    await asyncio.sleep(0.001)
    return message.payload


async def sleeps_for_nothing(message: zmesh.AgentMessage) -> bytes:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return message.payload


async def never_waits(message: zmesh.AgentMessage) -> bytes:
    return message.payload


async def has_a_timeout(message: zmesh.AgentMessage) -> bytes:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        return message.payload
    return b"no timeout came"


async def has_a_timeout_that_does_not_come(message: zmesh.AgentMessage) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return await never_waits(message)


async def waits_for_a_group_of_tasks(message: zmesh.AgentMessage) -> bytes:
    async with asyncio.TaskGroup() as group:
        halves = [group.create_task(sleeps(zmesh.AgentMessage(0, payload=part))) for part in _halves(message.payload)]
    return b"".join(half.result() for half in halves)


async def gathers(message: zmesh.AgentMessage) -> bytes:
    parts = [never_waits(zmesh.AgentMessage(0, payload=part)) for part in _halves(message.payload)]
    return b"".join(await asyncio.gather(*parts))


async def waits_for_a_thread(message: zmesh.AgentMessage) -> bytes:
    return await asyncio.to_thread(bytes, message.payload)


async def keeps_its_context(message: zmesh.AgentMessage) -> bytes:
    if here.get() != "nowhere":
        return b"another handler's variable is seen: " + here.get().encode()
    here.set(message.payload.decode())
    await asyncio.sleep(0)
    return here.get().encode()


async def is_one_task(message: zmesh.AgentMessage) -> bytes:
    before = asyncio.current_task()
    await asyncio.sleep(0)
    assert before is not None
    assert before is asyncio.current_task()
    return message.payload


async def waits_for_a_future_made_elsewhere(message: zmesh.AgentMessage) -> bytes:
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, message.payload)
    return await future


def returns_an_awaitable(message: zmesh.AgentMessage) -> asyncio.Future[bytes]:
    return asyncio.ensure_future(sleeps(message))


def is_plain(message: zmesh.AgentMessage) -> bytes:
    return message.payload


def returns_a_view(message: zmesh.AgentMessage) -> memoryview:
    return memoryview(message.payload)


def _halves(payload: bytes) -> tuple[bytes, bytes]:
    return payload[: len(payload) // 2], payload[len(payload) // 2 :]


HANDLERS = [
    is_plain,
    returns_a_view,
    never_waits,
    sleeps,
    sleeps_for_nothing,
    has_a_timeout,
    has_a_timeout_that_does_not_come,
    waits_for_a_group_of_tasks,
    gathers,
    waits_for_a_thread,
    keeps_its_context,
    is_one_task,
    waits_for_a_future_made_elsewhere,
    returns_an_awaitable,
]


@in_loop
async def test_every_kind_of_handler_answers_every_request(home: Path, loop: str) -> None:
    """Many at a time: the handlers of one batch start one after the other, and each that waits goes on by itself."""
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, _ = await agents(a, b)
        local = await b.register_agent(8)
        for number, handler in enumerate(HANDLERS, 100):
            await b.register_agent(number, handler=handler)  # type: ignore[arg-type]  # a view will do, as a courtesy
        await a.registry.wait_for_agent(100 + len(HANDLERS) - 1)
        for number, handler in enumerate(HANDLERS, 100):
            for asker in (seven, local):
                payloads = [b"request %d" % count for count in range(50)]
                answers = await asyncio.gather(*(asker.request(number, payload) for payload in payloads))
                assert [answer.payload for answer in answers] == payloads, handler.__name__
                assert {(answer.from_agent, answer.to_agent) for answer in answers} == {(number, asker.agent_id)}
        assert b.statistics().handlers_failed == 0


@in_loop
async def test_a_handler_that_waits_holds_up_no_other(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        gate = asyncio.Event()
        started: list[bytes] = []

        async def handler(message: zmesh.AgentMessage) -> bytes:
            started.append(message.payload)
            if message.payload.startswith(b"slow"):
                await gate.wait()
            return message.payload

        seven, _ = await agents(*await mesh.pair(), b_handler=handler)
        order = [b"slow 1", b"quick 1", b"slow 2", b"quick 2"]
        asked = [asyncio.create_task(seven.request(9, payload)) for payload in order]
        await asyncio.gather(asked[1], asked[3])
        assert started == order, "handlers start in the order of sending"
        assert not asked[0].done()
        assert not asked[2].done()
        gate.set()
        assert [answer.payload for answer in await asyncio.gather(*asked)] == order


@in_loop
async def test_at_most_so_many_handlers_wait_at_a_time(home: Path) -> None:
    async with Mesh(home) as mesh:
        gate = asyncio.Semaphore(0)
        running, most = 0, 0

        async def handler(message: zmesh.AgentMessage) -> bytes:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await gate.acquire()
            running -= 1
            return message.payload

        a, b = await mesh.pair(handler_concurrency=3)
        seven, _ = await agents(a, b, b_handler=handler)
        asked = [asyncio.create_task(seven.request(9, b"%d" % number)) for number in range(20)]
        await until(lambda: b.statistics().messages_delivered == 20, "all requests are there")
        assert running == 3
        for _ in asked:
            gate.release()
        assert [answer.payload for answer in await asyncio.gather(*asked)] == [b"%d" % n for n in range(20)]
        assert most == 3


# -- errors ----------------------------------------------------------------------------------------------------------


class Unlucky(Exception):
    """What a handler of these tests raises."""


def raises_at_once(message: zmesh.AgentMessage) -> NoReturn:
    raise Unlucky("thirteen")


async def raises_before_it_waits(message: zmesh.AgentMessage) -> NoReturn:
    raise Unlucky("thirteen")


async def raises_after_it_waited(message: zmesh.AgentMessage) -> NoReturn:
    await asyncio.sleep(0)
    raise Unlucky("thirteen")


@pytest.mark.parametrize("handler", [raises_at_once, raises_before_it_waits, raises_after_it_waited])
@in_loop
async def test_what_a_handler_raises_reaches_the_requester_and_the_node_goes_on(
    home: Path, loop: str, handler: zmesh.runtime.mailbox.Handler
) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, _ = await agents(a, b, b_handler=handler)
        local, _ = await b.register_agent(10), await b.register_agent(11, handler=is_plain)
        for asker in (seven, local):
            for _ in range(3):
                with pytest.raises(
                    zmesh.HandlerFailed, match="the handler of agent 9 raised Unlucky: thirteen"
                ) as told:
                    await asker.request(9, b"")
                assert (told.value.error_type, told.value.error_text, told.value.agent_id) == ("Unlucky", "thirteen", 9)
        await (await seven.send(9, b"nobody is told of a plain message")).delivered(PATIENCE_S)
        await until(lambda: b.statistics().handlers_failed == 7, "all seven failures are counted")
        await a.registry.wait_for_agent(11)
        assert (await seven.request(11, b"still here")).payload == b"still here"


@in_loop
async def test_an_error_of_any_text_is_told(home: Path) -> None:
    async with Mesh(home) as mesh:
        texts = iter(["", "x" * 100_000, "\ud800 is no text", "zwei\nZeilen"])

        def handler(message: zmesh.AgentMessage) -> NoReturn:
            raise Unlucky(next(texts))

        seven, _ = await agents(*await mesh.pair(), b_handler=handler)
        for expected in ("", "x" * 4096, "? is no text", "zwei\nZeilen"):
            with pytest.raises(zmesh.HandlerFailed) as told:
                await seven.request(9, b"", timeout_s=PATIENCE_S)
            assert told.value.error_text == expected


@in_loop
async def test_an_error_whose_text_raises_is_told_all_the_same(home: Path) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text either")

    def handler(message: zmesh.AgentMessage) -> NoReturn:
        raise Broken

    async with Mesh(home) as mesh:
        seven, _ = await agents(*await mesh.pair(), b_handler=handler)
        with pytest.raises(zmesh.HandlerFailed) as told:
            await seven.request(9, b"", timeout_s=PATIENCE_S)
        assert told.value.error_type == "Broken"


@in_loop
async def test_a_handler_that_returns_something_else_than_bytes_is_told(home: Path) -> None:
    async with Mesh(home) as mesh:
        seven, _ = await agents(*await mesh.pair(), b_handler=lambda message: "text")
        with pytest.raises(zmesh.HandlerFailed, match="TypeError: a handler returns bytes or None, not str"):
            await seven.request(9, b"")


@in_loop
async def test_an_answer_that_is_too_large_is_told(home: Path) -> None:
    """It is refused where it is made: its receiver would refuse the frame, and cut the connection, for ever."""
    async with Mesh(home) as mesh:
        a, b = await mesh.pair(max_message_bytes=100_000)
        seven, _ = await agents(a, b, b_handler=lambda message: bytes(int(message.payload)))
        local = await b.register_agent(8)
        for asker in (seven, local):
            with pytest.raises(zmesh.HandlerFailed, match="MessageTooLarge: the answer has 100001 bytes"):
                await asker.request(9, b"100001")
            assert len((await asker.request(9, b"100000")).payload) == 100_000
        assert a.statistics().connections_cut == 0


@in_loop
async def test_a_handler_that_knows_of_no_agent_is_not_taken_for_one_that_nobody_knows(home: Path) -> None:
    async with Mesh(home) as mesh:

        async def handler(message: zmesh.AgentMessage) -> bytes:
            return (await nine.request(404, b"")).payload

        seven, nine = await agents(*await mesh.pair(), b_handler=handler)
        with pytest.raises(
            zmesh.HandlerFailed, match=r"agent 9 raised zmesh\.UnknownAgent: agent 404 is not on any node"
        ):
            await seven.request(9, b"")


@in_loop
async def test_a_handler_that_is_cancelled_fails_and_no_other_does(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        waiting: dict[bytes, asyncio.Task[object]] = {}
        gate = asyncio.Event()

        async def handler(message: zmesh.AgentMessage) -> bytes:
            task = asyncio.current_task()
            assert task is not None
            waiting[message.payload] = task
            await gate.wait()
            return message.payload

        seven, _ = await agents(*await mesh.pair(), b_handler=handler)
        asked = [asyncio.create_task(seven.request(9, b"%d" % number)) for number in range(3)]
        await until(lambda: len(waiting) == 3, "three handlers wait")
        waiting[b"1"].cancel()
        with pytest.raises(zmesh.HandlerFailed, match="CancelledError"):
            await asked[1]
        gate.set()
        assert (await asked[0]).payload == b"0"
        assert (await asked[2]).payload == b"2"


@in_loop
async def test_a_handler_that_cancels_itself_fails_at_its_first_wait(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        reached: list[str] = []

        async def handler(message: zmesh.AgentMessage) -> bytes:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            reached.append("still running")
            await asyncio.sleep(0)
            reached.append("never here")
            return b""

        seven, _ = await agents(*await mesh.pair(), b_handler=handler)
        for _ in range(2):
            with pytest.raises(zmesh.HandlerFailed, match="CancelledError"):
                await seven.request(9, b"", timeout_s=PATIENCE_S)
        assert reached == ["still running"] * 2


@in_loop
async def test_a_cancellation_that_came_too_late_hits_no_later_handler(home: Path, loop: str) -> None:
    """A handler that asks for its own cancellation and then returns without waiting leaves nothing behind."""
    async with Mesh(home) as mesh:

        async def handler(message: zmesh.AgentMessage) -> bytes:
            if message.payload == b"cancel":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            else:
                await asyncio.sleep(0)
            return message.payload

        seven, _ = await agents(*await mesh.pair(), b_handler=handler)
        for payload in (b"cancel", b"1", b"cancel", b"cancel", b"2", b"3"):
            assert (await seven.request(9, payload, timeout_s=PATIENCE_S)).payload == payload


# -- deadlines -------------------------------------------------------------------------------------------------------


@in_loop
async def test_a_request_without_an_answer_ends_at_its_deadline(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        gate = asyncio.Event()

        async def handler(message: zmesh.AgentMessage) -> bytes:
            await gate.wait()
            return b"too late"

        a, b = await mesh.pair(request_timeout_s=0.05)
        seven, _ = await agents(a, b, b_handler=handler)
        eight = await b.register_agent(8)
        asked = [seven.request(9, b"", timeout_s=0.05), seven.request(9, b""), eight.request(9, b"")]
        for result in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(result, zmesh.RequestTimeout)
            assert str(result) == "agent 9 did not answer within 0.05 s"
        gate.set()
        await until(lambda: a.statistics().late_replies == 2, "late answers are counted and dropped")
        await until(lambda: b.statistics().late_replies == 1, "late local answers, too")
        assert a.statistics().requests_timed_out == 2
        assert (await seven.request(9, b"")).payload == b"too late", "later requests are not disturbed"


@in_loop
async def test_a_deadline_counts_while_the_request_waits_for_credit(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair(window_bytes=64 * 1024)
        seven, _ = await agents(a, b)
        payload = bytes(60_000)
        results = await asyncio.gather(
            *(seven.request(9, payload, timeout_s=0.2) for _ in range(40)), return_exceptions=True
        )
        assert {type(result) for result in results} == {zmesh.RequestTimeout}
        assert a.statistics().requests_timed_out == 40


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf")])
@in_loop
async def test_a_deadline_must_lie_ahead(home: Path, wrong: float) -> None:
    async with Mesh(home) as mesh:
        a = await mesh.node("a")
        one = await a.register_agent(1, handler=is_plain)
        with pytest.raises(zmesh.UsageError, match="must be positive"):
            await one.request(1, b"", timeout_s=wrong)


@in_loop
async def test_a_deadline_may_lie_far_ahead(home: Path) -> None:
    async with Mesh(home) as mesh:
        seven, _ = await agents(*await mesh.pair(), b_handler=is_plain)
        assert (await seven.request(9, b"x", timeout_s=1e9)).payload == b"x"


@in_loop
async def test_a_requester_that_is_cancelled_leaves_nothing_behind(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        gate = asyncio.Event()

        async def handler(message: zmesh.AgentMessage) -> bytes:
            await gate.wait()
            return message.payload

        a, b = await mesh.pair()
        seven, _ = await agents(a, b, b_handler=handler)
        task = asyncio.create_task(seven.request(9, b"cancelled"))
        await until(lambda: b.statistics().messages_delivered == 1, "the request is there")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        assert (await seven.request(9, b"next")).payload == b"next"
        assert a.statistics().late_replies == 1


# -- iteration -------------------------------------------------------------------------------------------------------


@in_loop
async def test_an_agent_that_iterates_answers_when_it_likes(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        seven, nine = await agents(*await mesh.pair())
        asked = [asyncio.create_task(seven.request(9, b"%d" % number)) for number in range(3)]
        questions = await read(nine, 3)
        assert {question.message_type for question in questions} == {zmesh.MessageType.QUERY}
        for question in reversed(questions):
            await nine.reply(question, b"re: " + question.payload)
        assert [answer.payload for answer in await asyncio.gather(*asked)] == [b"re: 0", b"re: 1", b"re: 2"]


@in_loop
async def test_only_a_request_can_be_replied_to(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b)
        await seven.send(9, b"")
        await seven.send(9, b"", message_type=zmesh.MessageType.QUERY)
        await seven.broadcast(b"")
        made = zmesh.AgentMessage(from_agent=7, to_agent=9, message_type=zmesh.MessageType.QUERY)
        for message in [*await read(nine, 3), made]:
            with pytest.raises(zmesh.UsageError, match="is not a request that agent 9 has read and not answered"):
                await nine.reply(message, b"")
        assert a.statistics().late_replies == 0


@in_loop
async def test_a_second_reply_is_refused(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair(max_message_bytes=100)
        seven, nine = await agents(a, b)
        asked = asyncio.create_task(seven.request(9, b""))
        (question,) = await read(nine, 1)
        for wrong, error in ((bytes(101), zmesh.MessageTooLarge), ("text", zmesh.UsageError)):
            with pytest.raises(error):
                await nine.reply(question, wrong)  # type: ignore[arg-type]
        await nine.reply(question, b"first")
        assert (await asked).payload == b"first"
        with pytest.raises(zmesh.UsageError, match="not answered"):
            await nine.reply(question, b"second")


@in_loop
async def test_iteration_ends_when_the_agent_does(home: Path, loop: str) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b)
        got: list[bytes] = []

        async def iterate(agent: zmesh.Agent) -> None:
            async for message in agent:
                got.append(message.payload)

        task = asyncio.create_task(iterate(nine))
        await seven.send(9, b"1")
        await until(lambda: got == [b"1"], "the message is read")
        await nine.close()
        await task
        again = await b.register_agent(9)
        await nine.close()  # which it is already: the one that has its number now is another
        assert [agent.agent_id for agent in b.registry.agents(node_id="b")] == [9]
        task = asyncio.create_task(iterate(again))
        await b.leave_network()
        await task
        await again.close()


@in_loop
async def test_what_waits_for_an_agent_that_closes_is_counted(home: Path) -> None:
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b)
        receipts = [await seven.send(9, b"x") for _ in range(10)]
        await receipts[-1].delivered(PATIENCE_S)
        await read(nine, 3)
        await nine.close()
        assert b.statistics().lost_agent_closed == 7


@in_loop
async def test_a_request_to_an_agent_that_closes_is_answered(home: Path) -> None:
    """It waits in the queue of an agent that goes: its requester need not wait for the deadline."""
    async with Mesh(home) as mesh:
        a, b = await mesh.pair()
        seven, nine = await agents(a, b)
        asked = asyncio.create_task(seven.request(9, b"", timeout_s=PATIENCE_S))
        await until(lambda: b.statistics().messages_delivered == 1, "the request is there")
        await nine.close()
        with pytest.raises(zmesh.UnknownAgent, match="agent 9 was closed before it got to the request"):
            await asked

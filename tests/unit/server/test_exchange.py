"""Whatever an app does, its caller gets a whole answer, or one that visibly is not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from app.server import connection as connections
from app.server.exchange import UNREAD_BYTES
from tests.unit.server.in_memory import Caller, echo, heard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.web.asgi import App, Receive, Scope, Send

pytestmark = pytest.mark.anyio

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
NEXT = b"GET /counted HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /counted HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"


def start(status: Any = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def says(*messages: dict[str, Any], fault: BaseException | None = None) -> App:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if fault is not None:
            raise fault

    return app


@contextlib.asynccontextmanager
async def calling(app: App) -> AsyncIterator[Caller]:
    caller = Caller(app)
    try:
        yield caller
    finally:
        await caller.leave()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_S", "TAKEN_S", "LINGER_S", "PARTING_S"):
        monkeypatch.setattr(connections, name, 0.05)


async def left_alone(caller: Caller) -> None:
    for _ in range(100):
        if caller.transport.closing:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the connection stays")


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b", b"a\x7f", b"a\x1b[1m"])
@pytest.mark.parametrize("name", [b"x", b"content-type", b"connection-id"])
async def test_a_header_is_one_line(name: bytes, value: bytes) -> None:
    async with calling(says(start(200, (name, value)), body(b"hello"))) as caller:
        await caller.send(GET)
        [answer] = heard(caller.out, [b"GET"], ended=True)
        assert (answer.status, answer.body) == (500, b"")
        assert value not in caller.out
    async with calling(says(start(200, (name, b"a\tb \xe9\xff")), body(b"hello"))) as caller:
        await caller.send(GET)
        assert [a.status for a in heard(caller.out, [b"GET"], ended=False)] == [200]


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"\xe9", b"a\0", b"(a)"])
async def test_the_name_of_a_header_is_a_token(name: bytes) -> None:
    async with calling(says(start(200, (name, b"v")), body())) as caller:
        await caller.send(GET)
        assert [a.status for a in heard(caller.out, [b"GET"], ended=True)] == [500]


@pytest.mark.parametrize("status", [0, 100, 101, 103, 199, 1000, -200, "200", "200 OK\r\nX: y"])
async def test_what_is_no_final_status_is_a_fault(status: Any) -> None:
    async with calling(says(start(status), body())) as caller:
        await caller.send(GET)
        assert [a.status for a in heard(caller.out, [b"GET"], ended=True)] == [500]


@pytest.mark.parametrize("length", [b"", b"-1", b"+1", b"1,1", b"0x1", b"9" * 5000])
async def test_a_length_is_a_number(length: bytes) -> None:
    async with calling(says(start(200, (b"Content-Length", length)), body(b"h"))) as caller:
        await caller.send(GET)
        assert [a.status for a in heard(caller.out, [b"GET"], ended=True)] == [500]


LENGTH = (b"content-length", b"5")


@pytest.mark.parametrize(
    "messages",
    [
        (start(200, LENGTH), body(b"hell")),
        (start(200, LENGTH), body(b"hello!")),
        (start(200, LENGTH), body()),
        (start(200, LENGTH), body(b"hello!", more=True)),
        (start(200, LENGTH),),
        (start(),),
        (),
        (body(b"hello"),),
        (start(), start()),
        ({"type": "http.response.trailers"},),
        (start(), {"type": "http.response.pathsend", "path": "/etc/passwd"}),
    ],
)
async def test_a_fault_that_is_noticed_in_time_is_told(messages: tuple[Any, ...]) -> None:
    async with calling(says(*messages)) as caller:
        await caller.send(GET, NEXT)
        [answer] = heard(caller.out, [b"GET"], ended=True)
        assert (answer.status, answer.headers[b"connection"]) == (500, b"close")
        assert caller.ended


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ((start(200, LENGTH), body(b"hel", more=True), body(b"l")), None),
        ((start(200, LENGTH), body(b"hel", more=True), body(b"lo!")), None),
        ((start(200, LENGTH), body(b"hel", more=True)), None),
        ((start(200, LENGTH), body(b"hel", more=True)), RuntimeError("x")),
        ((start(200, LENGTH), body(b"hel", more=True)), asyncio.CancelledError()),
        ((start(), body(b"hel", more=True)), None),
        ((start(), body(b"hel", more=True)), RuntimeError("x")),
        ((start(), body(b"hel", more=True), start()), None),
        ((start(), body(b"hel", more=True), {"type": "http.response.trailers"}), None),
    ],
)
async def test_an_answer_that_breaks_off_is_no_whole_one(
    messages: tuple[Any, ...], fault: BaseException | None
) -> None:
    async with calling(says(*messages, fault=fault)) as caller:
        await caller.send(GET, NEXT)
        assert caller.out.count(b"HTTP/1.1") == 1
        assert b"hel" in caller.out
        assert b"\r\n0\r\n" not in caller.out
        assert not caller.out.endswith(b"hello")
        assert caller.transport.closing


async def test_the_end_of_the_connection_is_the_end_of_an_old_callers_answer() -> None:
    async with calling(says(start(), body(b"hel", more=True), body(b"lo"))) as caller:
        await caller.send(OLD)
        assert caller.out.endswith(b"connection: close\r\n\r\nhello")
        assert caller.transport.closing
        assert not caller.transport.aborted
    async with calling(says(start(), body(b"hel", more=True))) as caller:
        await caller.send(OLD)
        assert caller.transport.aborted


@pytest.mark.parametrize(
    "fault", [RuntimeError("x"), asyncio.CancelledError(), asyncio.CancelledError("late")]
)
@pytest.mark.parametrize("messages", [(), (start(),)], ids=["nothing", "a head"])
async def test_an_app_that_fails_is_a_fault(
    messages: tuple[Any, ...], fault: BaseException
) -> None:
    async with calling(says(*messages, fault=fault)) as caller:
        await caller.send(GET, NEXT)
        assert [a.status for a in heard(caller.out, [b"GET"], ended=True)] == [500]


async def test_an_app_that_fails_after_its_answer_changes_nothing() -> None:
    app = says(start(200, LENGTH), body(b"hello"), fault=RuntimeError("x"))
    async with calling(app) as caller:
        await caller.send(GET, GET)
        assert [a.body for a in heard(caller.out, [b"GET"] * 2, ended=False)] == [b"hello"] * 2


@pytest.mark.parametrize(
    ("status", "method", "length"),
    [(204, b"GET", None), (304, b"GET", b"5"), (200, b"HEAD", b"5"), (404, b"HEAD", b"5")],
)
async def test_an_answer_without_a_body_has_none(
    status: int, method: bytes, length: bytes | None
) -> None:
    request = method + b" / HTTP/1.1\r\nHost: h\r\n\r\n"
    async with calling(says(start(status, LENGTH), body(b"hello"))) as caller:
        await caller.send(request, request)
        answers = heard(caller.out, [method] * 2, ended=False)
        assert [(a.status, a.body) for a in answers] == [(status, b"")] * 2
        assert [a.headers.get(b"content-length") for a in answers] == [length] * 2
    async with calling(says(start(status), body(b"he", more=True), body(b"llo"))) as caller:
        await caller.send(request, request)
        answers = heard(caller.out, [method] * 2, ended=False)
        assert [(a.status, a.body) for a in answers] == [(status, b"")] * 2
        assert b"transfer-encoding" not in answers[0].headers


async def test_how_a_body_is_sent_is_for_the_server_to_say() -> None:
    odd = (b"Transfer-Encoding", b"gzip"), (b"Connection", b"Keep-Alive, X")
    async with calling(says(start(200, *odd), body(b"he", more=True), body(b"llo"))) as caller:
        await caller.send(GET)
        [answer] = heard(caller.out, [b"GET"], ended=False)
        assert answer.headers[b"transfer-encoding"] == b"chunked"
        assert b"connection" not in answer.headers
    async with calling(says(start(200, (b"connection", b"x, Close")), body(b"hello"))) as caller:
        await caller.send(GET)
        [answer] = heard(caller.out, [b"GET"], ended=True)
        assert answer.headers[b"connection"] == b"close"
        assert caller.ended


async def test_who_is_gone_is_sent_nothing() -> None:
    heard_of: list[Any] = []
    go = asyncio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        heard_of.append(await receive())
        await go.wait()
        for message in (start(), body(b"x" * 100_000, more=True), body()):
            await send(message)
        heard_of.append(await receive())

    caller = await Caller(app).send(GET)
    caller.transport.close()
    await caller.settled()
    go.set()
    await caller.leave()
    assert heard_of == [{"type": "http.disconnect"}] * 2
    assert caller.out == b""


async def test_two_who_wait_are_both_told() -> None:
    told: list[str] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        async def listen() -> None:
            told.append((await receive())["type"])

        await receive()
        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            group.create_task(listen())

    caller = await Caller(app).send(GET)
    await caller.leave()
    assert told == ["http.disconnect"] * 2


async def test_a_caller_who_reads_slowly_is_not_written_ahead_for() -> None:
    sent = 0

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start())
        for _ in range(100):
            await send(body(b"x" * 1000, more=True))
            sent += 1
        await send(body())

    async with calling(app) as caller:
        caller.connection.pause_writing()
        await caller.send(GET)
        assert (sent, caller.out) == (0, b"")
        caller.connection.resume_writing()
        caller.connection.pause_writing()
        await caller.settled()
        assert sent == 0
        caller.connection.resume_writing()
        await caller.settled()
        [answer] = heard(caller.out, [b"GET"], ended=False)
        assert len(answer.body) == 100_000
    caller = Caller(app)
    caller.connection.pause_writing()
    await caller.send(GET)
    await caller.leave()  # and no task is left


async def test_a_body_that_nobody_asks_for_is_not_taken() -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await echo(scope, receive, send)

    pieces = [b"x" * 10_000] * 100
    async with calling(app) as caller:
        await caller.send(POST % 1_000_000, *pieces)
        assert caller.transport.paused
        exchange = caller.connection._answering
        assert UNREAD_BYTES < exchange._size <= UNREAD_BYTES + 10_000
        taken = exchange._size // 10_000
        go.set()
        await caller.send(*pieces[taken:])
        [answer] = heard(caller.out, [b"POST"], ended=False)
        assert len(answer.body) == 1_000_015


async def test_an_early_answer_leaves_the_connection_to_the_next_request() -> None:
    async with calling(echo) as caller:
        request = (POST % 1_000_000).replace(b"/counted", b"/unread")
        await caller.send(request, b"x" * 400_000)
        assert len(heard(caller.out, [b"POST"], ended=False)) == 1
        await caller.send(b"x" * 600_000 + NEXT)
        assert len(heard(caller.out, [b"POST", b"GET"], ended=False)) == 2


async def test_an_early_answer_that_closes_is_not_taken_back() -> None:
    app = says(start(413, (b"connection", b"close")), body(b"too large"))
    async with calling(app) as caller:
        await caller.send(POST % 1_000_000, b"x" * 400_000)
        assert [a.status for a in heard(caller.out, [b"POST"], ended=True)] == [413]
        # What still comes is taken, for a while: to close now would be a reset.
        assert caller.transport.half_closed
        assert not caller.transport.closing
        await caller.send(b"x" * 600_000, NEXT)
        assert caller.out.count(b"HTTP/1.1") == 1


async def test_an_answer_given_early_is_the_only_one() -> None:
    """Though what follows in the body is no chunk."""
    chunked = b"POST /unread HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with calling(echo) as caller:
        await caller.send(chunked, b"zz\r\n", NEXT)
        assert len(heard(caller.out, [b"POST"], ended=True)) == 1
        assert caller.ended


async def test_who_was_not_told_to_send_his_body_need_not() -> None:
    expecting = b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    async with calling(echo) as caller:
        await caller.send(expecting % b"/unread")
        [answer] = heard(caller.out, [b"POST"], ended=True)
        assert (answer.status, answer.interim) == (200, ())
        assert caller.ended
    async with calling(echo) as caller:
        await caller.send(expecting % b"/counted")
        assert caller.out == b"HTTP/1.1 100 Continue\r\n\r\n"
        await caller.send(b"hello", NEXT)
        assert len(heard(caller.out, [b"POST", b"GET"], ended=False)) == 2


async def test_a_body_is_asked_for_after_the_head_was_chosen() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200, LENGTH))
        await send(body((await receive())["body"]))

    expecting = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    async with calling(app) as caller:
        await caller.send(expecting)
        assert caller.out == b"HTTP/1.1 100 Continue\r\n\r\n"
        await caller.send(b"hello")
        assert [a.body for a in heard(caller.out, [b"PUT"], ended=False)] == [b"hello"]


# ---------------------------------------------------------------- the server ends


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("pieces", [[], [NEXT], [NEXT, b"GET /"]])
async def test_at_the_end_an_idle_connection_is_soon_closed(pieces: list[bytes]) -> None:
    caller = await Caller(echo).send(*pieces)
    caller.connection.shutdown()
    caller.connection.shutdown()
    await caller.settled()
    assert not caller.transport.closing
    await left_alone(caller)
    await caller.leave()


@pytest.mark.parametrize("pieces", [[], [NEXT], [NEXT, NEXT[:9]]])
async def test_at_the_end_a_request_that_was_on_its_way_is_the_last(pieces: list[bytes]) -> None:
    async with calling(echo) as caller:
        await caller.send(*pieces)
        caller.connection.shutdown()
        await caller.send(NEXT[9:] if len(pieces) == 2 else NEXT, NEXT)
        *_, last = heard(caller.out, [b"GET"] * 2, ended=True)
        assert last.headers[b"connection"] == b"close"
        assert caller.ended


@pytest.mark.parametrize("waiting", [0, 2])
async def test_at_the_end_what_is_under_way_is_answered(waiting: int) -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await echo(scope, receive, send)

    async with calling(app) as caller:
        await caller.send(NEXT * (1 + waiting))
        caller.connection.shutdown()
        await caller.send(NEXT)
        go.set()
        await caller.settled()
        answers = heard(caller.out, [b"GET"] * (1 + waiting), ended=True)
        assert [a.headers.get(b"connection") for a in answers] == [None] * waiting + [b"close"]
        assert caller.ended


async def test_at_the_end_a_body_that_still_comes_is_waited_for() -> None:
    async with calling(echo) as caller:
        await caller.send(POST % 10, b"hello")
        caller.connection.shutdown()
        await caller.send(b"world", NEXT)
        [answer] = heard(caller.out, [b"POST"], ended=True)
        assert answer.body == b"POST /counted? helloworld"
        assert caller.ended


async def test_at_the_end_an_early_answer_is_not_taken_back() -> None:
    async with calling(echo) as caller:
        await caller.send((POST % 100_000).replace(b"/counted", b"/unread"), b"hello")
        caller.connection.shutdown()
        await caller.send(b"x" * 99_995 + NEXT, NEXT)
        *_, last = heard(caller.out, [b"POST", b"GET"], ended=True)
        assert last.headers[b"connection"] == b"close"


async def test_at_the_end_an_answer_that_has_begun_is_finished() -> None:
    go = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"hel", more=True))
        await go.wait()
        await send(body(b"lo"))

    async with calling(app) as caller:
        await caller.send(GET)
        caller.connection.shutdown()
        go.set()
        await caller.send(GET, GET)
        answers = heard(caller.out, [b"GET"] * 2, ended=True)
        assert [a.body for a in answers] == [b"hello"] * 2
        assert [a.headers.get(b"connection") for a in answers] == [None, b"close"]
        assert caller.ended


async def test_what_is_cancelled_is_told_and_forgotten() -> None:
    """As `uvicorn.Server` does when its patience ends: some have not taken their first step."""
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await echo(scope, receive, send)

    caller = await Caller(app).send(NEXT * 2)
    caller.connection.shutdown()
    for _ in range(2):
        for task in list(caller.state.tasks):
            task.cancel("late")
        await caller.settled()
    # The first answer, a fault, ended the connection: the second request was never begun.
    assert [a.status for a in heard(caller.out, [b"GET"], ended=True)] == [500]
    await caller.leave()

    caller = await Caller(app).send(NEXT * 2)
    caller.connection.shutdown()
    first = caller.connection._answering
    go.set()
    while caller.connection._answering is first:  # noqa: ASYNC110 - the very first moment
        await asyncio.sleep(0)
    [task] = [task for task in caller.state.tasks if task is caller.connection._answering._task]
    task.cancel("late")
    await caller.settled()
    assert [a.status for a in heard(caller.out, [b"GET"] * 2, ended=True)] == [200, 500]
    await caller.leave()


async def test_a_fault_while_the_next_request_is_no_request_is_the_only_answer() -> None:
    async with calling(says(fault=RuntimeError("x"))) as caller:
        await caller.send(GET + b"nonsense\r\n\r\n")
        assert [a.status for a in heard(caller.out, [b"GET"] * 2, ended=True)] == [500]


# ---------------------------------------------------------------------- time


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("begun", [b"", b"GET", b"\r\n", NEXT + b"GET", NEXT + b"\r\n"])
async def test_a_connection_on_which_nothing_comes_is_closed(begun: bytes) -> None:
    caller = Caller(echo)
    caller.connection._keep_alive_s = 0.05
    await caller.send(begun)
    await left_alone(caller)
    assert not caller.transport.aborted
    await caller.leave()


@pytest.mark.usefixtures("quick")
async def test_a_caller_has_time_to_read_though_he_asks_for_nothing_more() -> None:
    """Time for the next request begins when he has taken the answer."""
    caller = Caller(echo)
    caller.connection._keep_alive_s = 0.01
    caller.connection.pause_writing()
    await caller.settled()
    caller.connection.resume_writing()
    await caller.send(NEXT)
    caller.connection.pause_writing()
    await asyncio.sleep(0.03)
    assert not caller.transport.closing
    caller.connection.resume_writing()
    await left_alone(caller)
    assert not caller.transport.aborted
    await caller.leave()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("data", [NEXT, b"", NEXT + b"GET /", b"nonsense\r\n\r\n"])
async def test_a_caller_who_does_not_read_is_cut(data: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        caller.connection.pause_writing()
        await echo(scope, receive, send)

    caller = Caller(app)
    caller.connection.pause_writing()
    await caller.send(data)
    await left_alone(caller)
    assert caller.transport.aborted
    await caller.leave()


@pytest.mark.usefixtures("quick")
async def test_a_body_that_nobody_wants_is_taken_for_a_while() -> None:
    caller = await Caller(echo).send((POST % 10**9).replace(b"/counted", b"/unread"))
    assert len(heard(caller.out, [b"POST"], ended=False)) == 1
    for _ in range(1000):
        if caller.transport.closing:
            break
        await caller.send(b"x" * 1000)
        await asyncio.sleep(0.001)
    assert caller.transport.closing
    await caller.leave()


@pytest.mark.usefixtures("quick")
async def test_one_who_does_not_hang_up_is_not_waited_for_without_end() -> None:
    caller = await Caller(echo).send(b"nonsense\r\n\r\n")
    assert caller.transport.half_closed
    await left_alone(caller)
    await caller.leave()


@pytest.mark.usefixtures("quick")
async def test_an_app_may_take_longer_than_a_caller() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.2)
        await echo(scope, receive, send)

    async with calling(app) as caller:
        await caller.send(NEXT + b"GET /")
        await asyncio.sleep(0.3)
        assert len(heard(caller.out, [b"GET"], ended=caller.ended)) == 1

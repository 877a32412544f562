"""A Dataverse that is away, breaks off, lies or stalls, seen by a caller of the broker."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.path.raw_http import Closed, RawAnswer, request_bytes
from tests.path.reaching import until
from tests.path.staging import Staged, staging
from tests.path.stand_ins import (
    JSON,
    ROW_ID,
    Arrived,
    Conduct,
    ordinary,
    says,
    stand_in_host,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "/environments/prod/api/data/v9.2"
READ = f"{ROOT}/accounts?$select=name"
CONTACT = f"{ROOT}/contacts({ROW_ID})"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    with (
        stand_in_host() as host,
        staging(host, tmp_path_factory.mktemp("faults")) as made,
    ):
        yield made


@pytest.fixture
def staged(stage: Staged) -> Iterator[Staged]:
    stage.quiet()
    yield stage
    stage.quiet()
    answer = stage.broker.ask("GET", READ, caller="reporting")
    assert answer.status == 200, "the next request is as good as ever"


def reads(staged: Staged, **headers: str) -> RawAnswer:
    return staged.broker.ask("GET", READ, caller="reporting", headers=headers)


def writes(staged: Staged) -> RawAnswer:
    return staged.broker.ask("POST", f"{ROOT}/invoices", caller="billing-sync", body={"name": "x"})


def problem(answer: RawAnswer) -> tuple[int, str]:
    assert answer.header("broker-decision") == "error"
    assert answer.header("content-type") == "application/problem+json"
    return answer.status, answer.json()["type"].removeprefix("/problems/")


def writing(*pieces: bytes, pause_s: float = 0.0) -> Conduct:
    """These bytes, and the end of the connection."""

    async def conduct(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return conduct


def resetting(*pieces: bytes) -> Conduct:
    async def conduct(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for piece in pieces:
            writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.05)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return conduct


LONG = b"X-Long: " + b"x" * 100_000 + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

NONSENSE = {
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a header of 100 KB": OK + LONG + b"Content-Length: 2\r\n\r\n{}",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "a line feed in a header": OK + b"X: a\nY: b\r\nContent-Length: 2\r\n\r\n{}",
    "a chunk of no size": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "an upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n",
}


@pytest.mark.parametrize("lie", NONSENSE)
def test_an_answer_that_says_two_things_says_nothing(staged: Staged, lie: str) -> None:
    for ask in (reads, writes):
        staged.prod.answer = lambda _: writing(NONSENSE[lie], b"")
        status, code = problem(ask(staged))
        assert status == 502
        assert code in {"upstream-malformed", "upstream-broke"}


def test_a_redirect_is_passed_on_without_a_way_out(staged: Staged) -> None:
    for to in ("https://evil.example/api/data/v9.2/accounts", "//evil.example/x", "ftp://x/y"):
        staged.prod.answer = lambda _, to=to: says(302, b"", {"Location": to})  # type: ignore[misc]
        answer = reads(staged)
        assert (answer.status, answer.header("location")) == (302, None)
    staged.prod.answer = lambda _: says(
        302, b"", {"Location": f"{staged.prod.url}/api/data/v9.2/x"}
    )
    assert reads(staged).header("location") == f"{staged.broker.url}{ROOT}/x"


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_connection_that_ends_before_an_answer(staged: Staged, how: str) -> None:
    conduct = writing() if how == "closed" else resetting()
    staged.prod.answer = lambda _: conduct
    assert problem(reads(staged)) == (502, "upstream-broke")
    staged.prod.clear()
    assert problem(writes(staged)) == (502, "upstream-broke")
    assert len(staged.prod.arrived) == 1, (
        "nobody knows what has become of a write: it is not sent again"
    )


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_half_an_answer_is_no_answer(staged: Staged, how: str) -> None:
    small = says(200, {"value": [{"name": "x" * 2000}]}, {"Content-Type": JSON})
    half = small[: len(small) - 1000]
    conduct = writing(half) if how == "closed" else resetting(half)
    staged.prod.answer = lambda _: conduct
    assert problem(reads(staged)) == (502, "upstream-broke")


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_half_a_long_answer_is_cut(staged: Staged, how: str) -> None:
    long = says(200, {"value": ["x" * 1000] * 1000}, {"Content-Type": JSON})
    half = long[: len(long) // 2]
    conduct = writing(half) if how == "closed" else resetting(half)
    staged.prod.answer = lambda _: conduct
    with staged.broker.connect() as connection:
        connection.send(request_bytes("GET", READ, staged.broker.bearer("reporting")))
        assert connection.head().status == 200
        with pytest.raises(Closed):
            connection._chunked()


def test_a_dataverse_that_is_away_is_told_by_name(stage: Staged) -> None:
    stage.quiet()
    other = socket.socket()
    other.bind(("127.0.0.1", 0))  # taken, and nobody listens
    upstream = stage.broker.running.world._upstreams
    config, client = upstream["prod"]
    away = client.__class__(f"http://127.0.0.1:{other.getsockname()[1]}")
    stage.broker.on_loop(lambda: upstream.update(prod=(config, away)))
    try:
        for ask in (reads, writes):
            answer = ask(stage)
            assert problem(answer) == (502, "upstream-unreachable")
            assert f"127.0.0.1:{other.getsockname()[1]}" in answer.json()["detail"]
    finally:
        stage.broker.on_loop(lambda: upstream.update(prod=(config, client)))
        other.close()
    assert reads(stage).status == 200


def test_a_dataverse_that_is_slower_than_the_caller_waits(staged: Staged) -> None:
    async def never(
        _arrived: Arrived, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
    ) -> None:
        await reader.read()

    staged.prod.answer = lambda _: never
    began = time.monotonic()
    answer = reads(staged, **{"Broker-Timeout": "0.5"})
    assert problem(answer) == (504, "upstream-timeout")
    assert time.monotonic() - began < 5


def test_a_slow_dataverse_holds_up_no_other_environment(staged: Staged) -> None:
    async def slow(
        arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await asyncio.sleep(1.0)
        writer.write(ordinary(arrived))
        await writer.drain()

    staged.prod.answer = lambda _: slow
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(reads(staged).status)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    other = staged.broker.ask(
        "GET", "/environments/dev/api/data/v9.2/accounts?$select=name", caller="case-desk"
    )
    assert other.status == 200
    assert time.monotonic() - began < 0.8
    for thread in threads:
        thread.join()
    assert set(answers) == {200}


def test_an_error_of_dataverses_is_its_own(staged: Staged) -> None:
    error = {"error": {"code": "0x80040265", "message": "ISV code aborted the operation."}}
    for status in (400, 404, 409, 412, 413, 500, 501, 502, 504):
        staged.prod.answer = lambda _, s=status: says(s, error)  # type: ignore[misc]
        answer = reads(staged)
        assert (answer.status, answer.header("broker-decision")) == (status, "allowed")
        assert answer.json() == error


def test_interim_answers_are_no_answers(staged: Staged) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    staged.prod.answer = lambda arrived: early + ordinary(arrived)
    answer = reads(staged)
    assert (answer.status, answer.interim) == (200, 0)


def test_what_follows_an_answer_is_never_another_callers(staged: Staged) -> None:
    secret = says(200, {"value": [{"name": "not yours"}]}, {"Content-Type": JSON})
    staged.prod.answer = lambda arrived: ordinary(arrived) + secret
    for _ in range(20):
        assert b"not yours" not in reads(staged).body


@pytest.mark.parametrize("cookies", [1, 3])
def test_cookies_are_neither_kept_nor_passed_on(staged: Staged, cookies: int) -> None:
    headers = [("Set-Cookie", f"ARRAffinity={n}") for n in range(cookies)]
    staged.prod.answer = lambda _: says(
        200,
        {"value": []},
        (("Content-Type", JSON), *headers, ("Server", "x"), ("X-Powered-By", "y")),
    )
    for _ in range(2):
        answer = reads(staged)
        assert answer.all("set-cookie") == answer.all("server") == answer.all("x-powered-by") == []
    assert all(a.header("cookie") is None for a in staged.prod.arrived)


@pytest.mark.slow
def test_nothing_is_left_of_all_that(staged: Staged) -> None:
    """As many tasks, descriptors and turns after a storm as before it."""
    storm: list[Conduct] = [
        writing(),
        resetting(),
        writing(NONSENSE["two lengths"]),
        writing(OK + b"Content-Length: 100000\r\n\r\n{"),
        resetting(OK + b"Content-Length: 100000\r\n\r\n{"),
    ]
    reads(staged)
    before = counted(staged)
    for number in range(60):
        staged.prod.answer = lambda _, n=number: storm[n % len(storm)]  # type: ignore[misc]
        (reads if number % 2 else writes)(staged)
    staged.quiet()
    until(lambda: counted(staged) <= before or None)


def counted(staged: Staged) -> tuple[int, int]:
    gc.collect()
    tasks = staged.broker.on_loop(lambda: len(asyncio.all_tasks()))
    return tasks, len(list(Path("/proc/self/fd").iterdir()))

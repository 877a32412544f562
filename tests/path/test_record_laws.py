"""When what is on record, seen from outside: law 4, ending by ending."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.path.disks import Disk
from tests.path.raw_http import Closed, request_bytes
from tests.path.reaching import until
from tests.path.staging import Staged, staging
from tests.path.stand_ins import JSON, ROW_ID, Arrived, Conduct, says

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.audit.record import Record
    from tests.path.stand_ins import StandInHost

ROOT = "/environments/prod/api/data/v9.2"
READ = f"{ROOT}/accounts?$select=name"
CONTACT = f"{ROOT}/contacts({ROW_ID})"
FILE = f"{ROOT}/accounts({ROW_ID})/new_contractfile"
WRITE = ("PATCH", CONTACT, "crm-writer", {"jobtitle": "x"})


def told(records: list[Record]) -> list[tuple[Any, ...]]:
    return [(r.phase, r.decision, r.outcome, r.status, r.reason) for r in records]


def rows(count: int) -> bytes:
    return says(200, {"value": [{"name": "x" * 100, "n": n} for n in range(count)]})


def head_of(whole: bytes) -> bytes:
    return whole[: whole.index(b"\r\n\r\n") + 4]


# --------------------------------------------------------------------- how things end

ENDINGS: dict[str, tuple[tuple[str, str, str | None, Any], bytes | None, list[tuple[Any, ...]]]] = {
    "a read that is whole at once": (
        ("GET", READ, "reporting", None),
        None,
        [("outcome", "allowed", "completed", 200, None)],
    ),
    "a read that streams": (
        ("GET", READ, "reporting", None),
        rows(3000),
        [
            ("intent", "allowed", None, None, None),
            ("outcome", "allowed", "completed", 200, None),
        ],
    ),
    "a write": (
        WRITE,
        None,
        [
            ("intent", "allowed", None, None, None),
            ("outcome", "allowed", "completed", 204, None),
        ],
    ),
    "a write that Dataverse refuses": (
        WRITE,
        says(412, {"error": {"code": "0x80060882", "message": "no"}}),
        [
            ("intent", "allowed", None, None, None),
            ("outcome", "allowed", "completed", 412, None),
        ],
    ),
    "a refusal": (
        ("GET", f"{ROOT}/systemusers?$select=fullname", "reporting", None),
        None,
        [("outcome", "refused", "completed", 403, "not-granted")],
    ),
    "what cannot be read": (
        ("GET", f"{ROOT}/accounts?$select=name&$bogus=1", "reporting", None),
        None,
        [("outcome", "refused", "completed", 400, "unknown-option")],
    ),
    "a stranger": (
        ("GET", READ, None, None),
        None,
        [("outcome", "refused", "completed", 401, "no-credential")],
    ),
    "a raw token that is not granted": (
        ("POST", "/environments/prod/token", "reporting", None),
        None,
        [("outcome", "refused", "completed", 403, "token-not-granted")],
    ),
    "a raw token": (
        ("POST", "/environments/prod/token", "token-app", None),
        None,
        [("outcome", "allowed", "completed", 200, None)],
    ),
    "a management request": (
        ("GET", "/callers/me", "reporting", None),
        None,
        [("outcome", "allowed", "completed", 200, None)],
    ),
    "a management request without the role": (
        ("GET", "/audit/records", "reporting", None),
        None,
        [("outcome", "refused", "completed", 403, "not-granted")],
    ),
    "an address that is none": (
        ("GET", "/nowhere", "reporting", None),
        None,
        [("outcome", "refused", "completed", 404, "no-such-address")],
    ),
    "an answer that cannot be passed on": (
        ("GET", READ, "reporting", None),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        [("outcome", "error", "upstream_failed", 502, "upstream-malformed")],
    ),
    "a write whose answer cannot be passed on": (
        WRITE,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        [
            ("intent", "allowed", None, None, None),
            ("outcome", "error", "upstream_failed", 502, "upstream-malformed"),
        ],
    ),
    "JSON in an encoding whose links cannot be found": (
        ("GET", READ, "reporting", None),
        says(200, b"{}", {"Content-Type": "application/json; charset=utf-16"}),
        [("outcome", "error", "upstream_failed", 502, "upstream-malformed")],
    ),
    "JSON in a coding that nobody asked for": (
        ("GET", READ, "reporting", None),
        says(200, b"{}", {"Content-Type": JSON, "Content-Encoding": "br"}),
        [("outcome", "error", "upstream_failed", 502, "upstream-malformed")],
    ),
    "JSON that is packed and cut off": (
        ("GET", READ, "reporting", None),
        says(
            200,
            gzip.compress(b'{"value":[]}')[:-4],
            {"Content-Type": JSON, "Content-Encoding": "gzip"},
        ),
        [("outcome", "error", "upstream_failed", 502, "upstream-malformed")],
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_ending_has_one_outcome(staged: Staged, ending: str) -> None:
    (method, target, caller, body), answers, expected = ENDINGS[ending]
    if answers is not None:
        staged.prod.answer = lambda _: answers
    answer = staged.broker.ask(method, target, caller=caller, body=body)
    records = staged.broker.records_of(answer.header("broker-request-id"))
    assert told(records) == expected
    assert answer.status == expected[-1][3]
    assert {r.caller for r in records} == {caller}
    assert len({r.id for r in records}) == 1


def test_no_connection_is_left_of_an_answer_that_could_not_be_passed_on(staged: Staged) -> None:
    staged.prod.answer = lambda _: says(
        200, b"{}", {"Content-Type": "application/json; charset=utf-16"}
    )
    for _ in range(120):  # more than there may be connections to one environment
        assert staged.broker.ask("GET", READ, caller="reporting").status == 502
    pool = staged.broker.running.world.upstream("prod").pool
    assert staged.broker.on_loop(lambda: pool.open_connections - pool.idle_connections) == 0


# ----------------------------------------------------------------------- the moments


@pytest.mark.parametrize(
    ("method", "target", "caller", "body"),
    [
        WRITE,
        ("POST", f"{ROOT}/invoices", "billing-sync", {"name": "x"}),
        ("DELETE", CONTACT, "crm-writer", None),
        ("PATCH", FILE, "file-writer", b"%PDF" * 1000),
    ],
)
def test_a_write_is_on_record_before_a_byte_of_it_leaves(
    staged: Staged, method: str, target: str, caller: str, body: Any
) -> None:
    seen: list[list[Record]] = []

    async def look(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        seen.append(staged.broker.records())
        writer.write(says(204))
        await writer.drain()

    staged.prod.at_head = look
    headers = {"x-ms-file-name": "a.pdf", "Content-Type": "application/octet-stream"}
    answer = staged.broker.ask(
        method, target, caller=caller, body=body, headers=headers if target == FILE else None
    )
    assert answer.header("broker-decision") in {"allowed", "error"}
    [records] = seen
    mine = [r for r in records if r.request_id == answer.header("broker-request-id")]
    assert told(mine) == [("intent", "allowed", None, None, None)]
    assert mine[0].accesses


def test_a_read_is_on_record_before_the_first_byte_of_its_answer_leaves(staged: Staged) -> None:
    staged.prod.answer = lambda _: rows(50_000)
    with staged.broker.connect() as connection:
        headers = {"Authorization": f"Bearer {staged.broker.keys['reporting']}"}
        connection.send(request_bytes("GET", READ, headers))
        head = connection.head()
        # Nobody reads on: most of the answer is on its way still.
        records = staged.broker.records_of(head.header("broker-request-id"))
        assert told(records) == [("intent", "allowed", None, None, None)]


def test_an_outcome_is_on_record_before_the_last_byte_leaves(staged: Staged) -> None:
    for _ in range(20):
        answer = staged.broker.ask("GET", READ, caller="reporting")
        assert len(staged.broker.records_of(answer.header("broker-request-id"))) == 1


# ------------------------------------------------------------------------ hanging up


def waits(seen: list[str]) -> Conduct:
    """Says nothing, and notes when it is hung up on."""

    async def conduct(
        _arrived: Arrived, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
    ) -> None:
        seen.append("asked")
        while await reader.read(4096):
            pass
        seen.append("cancelled")

    return conduct


@pytest.mark.parametrize(
    ("method", "target", "caller", "body"), [("GET", READ, "reporting", None), WRITE]
)
def test_a_caller_who_hangs_up_cancels_what_he_asked_for(
    staged: Staged, method: str, target: str, caller: str, body: Any
) -> None:
    seen: list[str] = []
    staged.prod.at_head = waits(seen)
    before = len(staged.broker.records())
    with staged.broker.connect() as connection:
        headers = {"Authorization": f"Bearer {staged.broker.keys[caller]}", "Content-Type": JSON}
        content = b'{"jobtitle":"x"}' if body else None
        connection.send(request_bytes(method, target, headers, content))
        until(lambda: seen or None)
    until(lambda: "cancelled" in seen or None)
    records = until(lambda: outcomes_after(staged, before))
    assert told(records) == [("outcome", "allowed", "caller_gone", None, "caller-gone")]


def test_a_caller_who_hangs_up_in_mid_answer_cancels_the_rest(staged: Staged) -> None:
    before = len(staged.broker.records())
    cut: list[str] = []

    async def endless(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n")
        writer.write(b"Content-Type: application/json\r\n\r\n")
        piece = b'{"name":"' + b"x" * 16_000 + b'"},'
        try:
            while True:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
        except OSError:
            cut.append("cut")
            raise

    staged.prod.answer = lambda _: endless
    with staged.broker.connect() as connection:
        headers = {"Authorization": f"Bearer {staged.broker.keys['reporting']}"}
        connection.send(request_bytes("GET", READ, headers))
        assert connection.head().status == 200
    until(lambda: cut or None)
    records = until(lambda: outcomes_after(staged, before))
    assert told(records) == [("outcome", "allowed", "caller_gone", None, "caller-gone")]
    assert records[0].bytes_out


def test_a_caller_who_hangs_up_while_the_disk_works_gets_no_second_outcome(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(staged.broker.records())
    Disk(staged.broker.audit_file, monkeypatch).slow_s = 0.4
    for target in (READ, f"{ROOT}/systemusers", f"{ROOT}/a//b"):
        with staged.broker.connect() as connection:
            headers = {"Authorization": f"Bearer {staged.broker.keys['reporting']}"}
            connection.send(request_bytes("GET", target, headers))
            time.sleep(0.2)  # the record is under way, and the broker has begun to listen
    time.sleep(1.0)
    outcomes = [r for r in staged.broker.records()[before:] if r.phase == "outcome"]
    assert len(outcomes) == 3
    assert len({r.id for r in outcomes}) == 3


def outcomes_after(staged: Staged, before: int) -> list[Record] | None:
    return [r for r in staged.broker.records()[before:] if r.phase == "outcome"] or None


# ------------------------------------------------------------------ Dataverse breaks off


def test_an_answer_that_breaks_off_is_cut_for_the_caller_too(staged: Staged) -> None:
    whole = rows(3000)

    async def half(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(whole[: len(whole) // 2])
        await writer.drain()

    staged.prod.answer = lambda _: half
    with staged.broker.connect() as connection:
        headers = {"Authorization": f"Bearer {staged.broker.keys['reporting']}"}
        connection.send(request_bytes("GET", READ, headers))
        head = connection.head()
        assert head.header("transfer-encoding") == "chunked"
        got = connection.rest()
    assert not got.endswith(b"0\r\n\r\n")
    records = staged.broker.until_recorded(head.header("broker-request-id"), count=2)
    assert told(records) == [
        ("intent", "allowed", None, None, None),
        ("outcome", "allowed", "upstream_failed", None, "upstream-broke"),
    ]


def test_an_answer_that_breaks_off_before_it_has_begun_is_an_error(staged: Staged) -> None:
    whole = rows(1000)

    async def half(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(whole[: len(whole) // 2])
        await writer.drain()

    staged.prod.answer = lambda _: half
    answer = staged.broker.ask("GET", READ, caller="reporting", headers={"Broker-Retry": "none"})
    assert (answer.status, answer.json()["error"]["code"]) == (502, "upstream-broke")
    assert b"xxx" not in answer.body
    [record] = staged.broker.records_of(answer.header("broker-request-id"))
    assert told([record]) == [("outcome", "error", "upstream_failed", 502, "upstream-broke")]


# -------------------------------------------------------------- no record can be kept


@pytest.fixture
def alone(host: StandInHost, tmp_path: Path) -> Iterator[Staged]:
    """A broker of its own, since its store is broken on purpose."""
    with staging(host, tmp_path) as made:
        yield made


def test_without_a_record_nothing_is_sent_and_nothing_is_answered(
    alone: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alone.broker.ask("GET", READ, caller="reporting").status == 200
    alone.prod.clear()
    disk = Disk(alone.broker.audit_file, monkeypatch)
    disk.broken = True
    for method, target, caller, body in (
        WRITE,
        ("GET", f"{ROOT}/systemusers", "reporting", None),
        ("GET", READ, None, None),
        ("GET", f"{ROOT}/a//b", "reporting", None),
        ("GET", f"{ROOT}/accounts?x={'y' * 40_000}", "reporting", None),
        ("POST", "/environments/prod/token", "token-app", None),
        ("GET", "/callers/me", "reporting", None),
    ):
        answer = alone.broker.ask(method, target, caller=caller, body=body)
        assert (answer.status, answer.header("broker-decision")) == (503, "error"), target
        assert answer.header("retry-after")
        assert b"access_token" not in answer.body
    assert alone.prod.arrived == []
    # A read may be on its way already; its answer does not leave.
    answer = alone.broker.ask("GET", READ, caller="reporting")
    assert answer.status == 503
    assert b"Contoso" not in answer.body
    assert alone.broker.ask("GET", "/readyz").status == 503
    assert alone.broker.ask("GET", "/livez").status == 200
    disk.broken = False
    until(lambda: alone.broker.ask("GET", READ, caller="reporting").status == 200 or None)
    assert alone.broker.ask("GET", "/readyz").status == 200


def test_when_the_record_fails_in_mid_answer_the_connection_is_cut(
    alone: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()
    loop: list[asyncio.AbstractEventLoop] = []
    whole = rows(3000)

    async def in_two_halves(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        loop.append(asyncio.get_running_loop())
        writer.write(whole[: len(whole) - 1000])
        await writer.drain()
        await go_on.wait()
        writer.write(whole[len(whole) - 1000 :])
        await writer.drain()

    alone.prod.answer = lambda _: in_two_halves
    with alone.broker.connect() as connection:
        headers = {"Authorization": f"Bearer {alone.broker.keys['reporting']}"}
        connection.send(request_bytes("GET", READ, headers))
        assert connection.head().status == 200
        disk = Disk(alone.broker.audit_file, monkeypatch)
        disk.broken = True
        loop[0].call_soon_threadsafe(go_on.set)
        with pytest.raises(Closed):
            connection._chunked()
    disk.broken = False
    until(lambda: alone.broker.ask("GET", "/readyz").status == 200 or None)


def test_what_was_stopped_says_so(host: StandInHost, tmp_path: Path) -> None:
    seen: list[str] = []
    with staging(host, tmp_path) as made:
        made.broker.server.config.timeout_graceful_shutdown = 1
        made.prod.at_head = waits(seen)
        connection = made.broker.connect()
        headers = {"Authorization": f"Bearer {made.broker.keys['crm-writer']}"}
        body = b'{"jobtitle":"x"}'
        connection.send(request_bytes("PATCH", CONTACT, {**headers, "Content-Type": JSON}, body))
        until(lambda: seen or None)
    assert told(made.broker.records()) == [
        ("intent", "allowed", None, None, None),
        ("outcome", "error", "stopped", None, "shutting-down"),
    ]
    connection.close()

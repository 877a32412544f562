"""Files and large results: as they were, in bounded memory, links right at every boundary."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import random
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any, Self

import pytest

from app.dataverse.answer import WHOLE_BYTES
from app.path import judging
from app.path.aside import LARGE_BYTES
from app.path.delivering import HELD_BYTES, UNPACKED_BYTES_MAX
from app.policy.decide import decide
from tests.path.raw_http import request_bytes
from tests.path.reaching import until
from tests.path.stand_ins import JSON, ROW_ID, Arrived, Conduct, says

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.odata.reading import Reading
    from app.policy.decision import Decision
    from app.policy.grants import Grant
    from tests.path.staging import Staged

ROOT = "/environments/prod/api/data/v9.2"
FILE = f"{ROOT}/accounts({ROW_ID})/new_contractfile"
READ = f"{ROOT}/accounts?$select=name"
MIB = 1024 * 1024
FILE_BYTES = 20 * MIB


def pieces_of(size: int) -> Iterator[bytes]:
    """The same bytes each time, no two pieces alike, none as large as the file."""
    made = random.Random(size)  # noqa: S311 - no secret
    left = size
    while left > 0:
        piece = made.randbytes(min(left, 65_521))
        left -= len(piece)
        yield piece


def digest(size: int) -> str:
    whole = hashlib.sha256()
    for piece in pieces_of(size):
        whole.update(piece)
    return whole.hexdigest()


class Peak:
    """The most that Python held at once while the block ran, beyond what it held before."""

    mib = 0.0

    def __enter__(self) -> Self:
        tracemalloc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.mib = tracemalloc.get_traced_memory()[1] / MIB
        tracemalloc.stop()


# ------------------------------------------------------------------------------- files


@pytest.mark.slow
@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_of_20_mib_goes_up_in_bounded_memory(staged: Staged, *, chunked: bool) -> None:
    got: list[tuple[str, int, str | None]] = []

    async def takes_it(
        arrived: Arrived, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        whole, size = hashlib.sha256(), 0
        length = arrived.header("content-length")
        while size < FILE_BYTES:
            if length is None:
                line = await reader.readuntil(b"\r\n")
                piece = await reader.readexactly(int(line, 16))
                await reader.readexactly(2)
            else:
                piece = await reader.read(65_536)
            whole.update(piece)
            size += len(piece)
        got.append((whole.hexdigest(), size, length))
        writer.write(says(204))
        await writer.drain()

    staged.prod.at_head = takes_it
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {FILE_BYTES}"
    head = (
        f"PATCH {FILE} HTTP/1.1\r\nHost: x\r\nx-ms-file-name: a.bin\r\n{framing}\r\n"
        f"Content-Type: application/octet-stream\r\n"
        f"Authorization: Bearer {staged.broker.keys['file-writer']}\r\n\r\n"
    )
    with Peak() as peak, staged.broker.connect() as connection:
        connection.send(head.encode())
        for piece in pieces_of(FILE_BYTES):
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        connection.send(b"0\r\n\r\n" if chunked else b"")
        answer = connection.answer()
    assert answer.status == 204
    assert got == [(digest(FILE_BYTES), FILE_BYTES, None if chunked else str(FILE_BYTES))]
    [_, outcome] = staged.broker.records_of(answer.header("broker-request-id"))
    assert outcome.bytes_in == FILE_BYTES
    assert peak.mib < 5


def gives(size: int, headers: str) -> Conduct:
    async def conduct(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode())
        for piece in pieces_of(size):
            writer.write(piece)
            await writer.drain()

    return conduct


@pytest.mark.slow
def test_a_file_of_20_mib_comes_down_in_bounded_memory(staged: Staged) -> None:
    described = (
        f"Content-Length: {FILE_BYTES}\r\nContent-Type: application/octet-stream\r\n"
        'Content-Disposition: attachment; filename="a.bin"\r\nx-ms-file-name: a.bin'
    )
    staged.prod.answer = lambda _: gives(FILE_BYTES, described)
    with Peak() as peak, staged.broker.connect() as connection:
        connection.send(request_bytes("GET", f"{FILE}/$value", staged.broker.bearer("file-writer")))
        head = connection.head()
        whole, size = hashlib.sha256(), 0
        while size < FILE_BYTES:
            piece = connection._exactly(min(65_536, FILE_BYTES - size))
            whole.update(piece)
            size += len(piece)
    assert head.header("content-length") == str(FILE_BYTES)
    assert head.header("content-disposition") == 'attachment; filename="a.bin"'
    assert whole.hexdigest() == digest(FILE_BYTES)
    records = staged.broker.until_recorded(head.header("broker-request-id"), count=2)
    assert records[-1].bytes_out == FILE_BYTES
    assert peak.mib < 5


def test_a_part_of_a_file_is_asked_for_and_answered_as_one(staged: Staged) -> None:
    staged.prod.answer = lambda _: says(
        206,
        b"0123",
        {"Content-Type": "application/octet-stream", "Content-Range": "bytes 0-3/9"},
    )
    answer = staged.broker.ask(
        "GET", f"{FILE}/$value", caller="file-writer", headers={"Range": "bytes=0-3"}
    )
    assert (answer.status, answer.body) == (206, b"0123")
    assert answer.header("content-range") == "bytes 0-3/9"
    assert staged.prod.arrived[-1].header("range") == "bytes=0-3"


def test_a_file_stays_packed_for_a_caller_who_takes_it_so(staged: Staged) -> None:
    packed = gzip.compress(b"contract")
    kind = {"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}
    staged.prod.answer = lambda arrived: (
        says(200, packed, kind)
        if "gzip" in (arrived.header("accept-encoding") or "")
        else says(200, b"contract", {"Content-Type": "application/octet-stream"})
    )
    taking = {"Accept-Encoding": "gzip"}
    answer = staged.broker.ask("GET", FILE, caller="file-writer", headers=taking)
    assert (answer.header("content-encoding"), answer.body) == ("gzip", packed)
    answer = staged.broker.ask("GET", FILE, caller="file-writer")
    assert (answer.header("content-encoding"), answer.body) == (None, b"contract")


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [(None, False), ("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False)],
)
def test_what_has_no_links_is_unpacked_for_a_caller_who_cannot(
    staged: Staged, accepts: str | None, *, packed: bool
) -> None:
    squeezed = gzip.compress(b"\xef\xbb\xbf42")
    kind = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    staged.prod.answer = lambda _: says(200, squeezed, kind)
    headers = {} if accepts is None else {"Accept-Encoding": accepts}
    answer = staged.broker.ask(
        "GET", f"{ROOT}/accounts/$count", caller="reporting", headers=headers
    )
    coding, body = ("gzip", squeezed) if packed else (None, b"\xef\xbb\xbf42")
    assert (answer.header("content-encoding"), answer.body) == (coding, body)
    assert staged.prod.arrived[-1].header("accept-encoding") == "gzip"


def test_a_caller_who_sends_slowly_holds_nobody_up(staged: Staged) -> None:
    begun = threading.Event()

    async def waits(
        _arrived: Arrived, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        begun.set()
        await reader.readexactly(8)
        writer.write(says(204))
        await writer.drain()

    staged.prod.at_head = waits
    headers = {
        **staged.broker.bearer("file-writer"),
        "Content-Type": "application/octet-stream",
        "x-ms-file-name": "a.bin",
    }
    with staged.broker.connect() as slow:
        slow.send(request_bytes("PATCH", FILE, headers, b"01234567")[:-4])
        assert begun.wait(10), "what has come is passed on before the rest is here"
        staged.prod.at_head = None
        assert staged.broker.ask("GET", READ, caller="reporting").status == 200
        slow.send(b"4567")
        assert slow.answer().status == 204


def test_a_caller_who_leaves_in_his_upload_takes_it_with_him(staged: Staged) -> None:
    cut: list[bytes] = []

    async def watches(
        _arrived: Arrived, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
    ) -> None:
        cut.append(await reader.read(-1))

    staged.prod.at_head = watches
    before = len(staged.broker.records())
    headers = {
        **staged.broker.bearer("file-writer"),
        "Content-Type": "application/octet-stream",
        "x-ms-file-name": "a.bin",
    }
    with staged.broker.connect() as connection:
        connection.send(request_bytes("PATCH", FILE, headers, b"x" * 100_000)[:-50_000])
        until(lambda: len(staged.broker.records()) > before or None)
    until(lambda: cut or None)
    assert len(cut[0]) <= 50_000
    records = until(lambda: r if len(r := staged.broker.records()[before:]) > 1 else None)
    assert [(r.phase, r.outcome) for r in records] == [("intent", None), ("outcome", "caller_gone")]


# ------------------------------------------------------------------- results with links


def page(staged: Staged, count: int) -> tuple[bytes, bytes]:
    """What Dataverse says, and what the caller must get; compact, so that bytes can be compared."""
    here, there = staged.prod.url, f"{staged.broker.url}/environments/prod"

    def written(base: str) -> bytes:
        rows = [
            {
                "@odata.id": f"{base}/api/data/v9.2/accounts({ROW_ID})",
                "@odata.etag": 'W/"1"',
                "name": f'Ünï "{here}/api/data/v9.2/x" \\ {"y" * (n % 97)}',
            }
            for n in range(count)
        ]
        whole = {"@odata.context": f"{base}/api/data/v9.2/$metadata#accounts(name)", "value": rows}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()

    return written(here), written(there)


def dripping(content: bytes, headers: str, *, seed: int) -> Conduct:
    """Chunks of any length, each on its way alone."""
    cuts = random.Random(seed)  # noqa: S311 - no secret

    async def conduct(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n{headers}"
            "\r\n".encode()
        )
        at = 0
        while at < len(content):
            size = cuts.choice([1, 2, 7, 30, 97, 1000, 5000])
            piece = content[at : at + size]
            at += size
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return conduct


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("packed", [False, True])
def test_links_are_right_however_the_answer_is_cut(
    staged: Staged, seed: int, *, packed: bool
) -> None:
    said, expected = page(staged, 60)
    content = gzip.compress(said) if packed else said
    headers = "Content-Encoding: gzip\r\n" if packed else ""
    staged.prod.answer = lambda _: dripping(content, headers, seed=seed)
    answer = staged.broker.ask("GET", READ, caller="reporting")
    assert answer.header("content-encoding") is None
    assert answer.body == expected


def rows_of(size: int) -> bytes:
    return b'{"value":["' + b"x" * (size - 14) + b'"]}'


@pytest.mark.parametrize(
    ("size", "packed", "records"),
    [
        pytest.param(WHOLE_BYTES, False, 1, id="of a length that is waited for"),
        pytest.param(WHOLE_BYTES + 1, False, 2, id="longer"),
        pytest.param(UNPACKED_BYTES_MAX, True, 1, id="packed"),
        pytest.param(UNPACKED_BYTES_MAX + HELD_BYTES + 1, True, 2, id="packed, longer"),
    ],
)
def test_an_answer_that_is_whole_has_its_length_and_one_record(
    staged: Staged, size: int, records: int, *, packed: bool
) -> None:
    said = rows_of(size)
    kind = {"Content-Type": JSON, **({"Content-Encoding": "gzip"} if packed else {})}
    staged.prod.answer = lambda _: says(200, gzip.compress(said) if packed else said, kind)
    answer = staged.broker.ask("GET", READ, caller="reporting")
    assert answer.body == said
    assert answer.header("content-length") == (str(size) if records == 1 else None)
    kept = staged.broker.until_recorded(answer.header("broker-request-id"), count=records)
    assert [r.phase for r in kept] == ["intent", "outcome"][-records:]
    assert kept[-1].bytes_out == size


@pytest.mark.slow
def test_a_result_of_20_mib_streams_through_with_its_links(staged: Staged) -> None:
    said, expected = page(staged, 90_000)
    assert len(said) > 16 * MIB
    sent = says(200, said, {"Content-Type": JSON})

    async def conduct(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for at in range(0, len(sent), 65_536):
            writer.write(sent[at : at + 65_536])
            await writer.drain()

    staged.prod.answer = lambda _: conduct
    wanted = hashlib.sha256(expected).hexdigest()
    with Peak() as peak, staged.broker.connect() as connection:
        connection.send(request_bytes("GET", READ, staged.broker.bearer("reporting")))
        assert connection.head().header("transfer-encoding") == "chunked"
        whole = hashlib.sha256()
        while size := int(connection._until(b"\r\n"), 16):
            whole.update(connection._exactly(size))
            connection._exactly(2)
    assert whole.hexdigest() == wanted
    assert peak.mib < 5


def test_a_reader_who_pauses_makes_dataverse_pause(staged: Staged) -> None:
    written = [0]

    async def conduct(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n")
        writer.write(b"Content-Type: application/octet-stream\r\n\r\n")
        for _ in range(2000):
            writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
            await writer.drain()
            written[0] += 65_536

    staged.prod.answer = lambda _: conduct
    with staged.broker.connect() as connection:
        connection.send(request_bytes("GET", f"{FILE}/$value", staged.broker.bearer("file-writer")))
        assert connection.head().status == 200
        until(lambda: written[0] or None)
        stands_at = _at_rest(written)
        assert stands_at < 32 * MIB, "as much as sockets on the way hold, and no more"


def _at_rest(counted: list[int]) -> int:
    """The count once it has stopped growing."""
    last: list[int] = [-1]

    def still() -> int | None:
        threading.Event().wait(0.2)
        now, before = counted[0], last[0]
        last[0] = now
        return now if now == before else None

    return until(still)


def test_many_answers_at_once_reach_the_right_callers(staged: Staged) -> None:
    staged.prod.answer = lambda arrived: says(200, {"value": [], "asked": arrived.decoded})
    failed: list[Any] = []

    def asks(number: int) -> None:
        for turn in range(10):
            marker = f"{number}-{turn}-{'z' * (number * 7)}"
            target = f"{READ}&$filter=name%20eq%20'{marker}'"
            answer = staged.broker.ask("GET", target, caller="reporting")
            if f"'{marker}'" not in answer.json()["asked"]:
                failed.append((marker, answer.text))

    threads = [threading.Thread(target=asks, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_others_are_answered_while_a_large_body_is_read(
    staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, others_are_done = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def slowly(grant: Grant, reading: Reading) -> Decision:
        if reading.method == "POST":
            begun.set()
            in_time.append(others_are_done.wait(10))
        return decide(grant, reading)

    monkeypatch.setattr(judging, "decide", slowly)
    large = {"name": "x" * (LARGE_BYTES + 1)}
    answers: list[int] = []
    sender = threading.Thread(
        target=lambda: answers.append(
            staged.broker.ask("POST", f"{ROOT}/accounts", caller="reporting", body=large).status
        )
    )
    sender.start()
    assert begun.wait(10)
    assert staged.broker.ask("GET", READ, caller="reporting").status == 200
    others_are_done.set()
    sender.join()
    assert in_time == [True]
    assert answers == [403]

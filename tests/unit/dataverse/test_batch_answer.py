from __future__ import annotations

import email.parser
import email.policy
import itertools
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dataverse.batch_answer import (
    LENGTH_HELD_BYTES,
    PART_HEAD_MAX_BYTES,
    BatchAnswerRewriter,
    batch_boundary,
)
from app.dataverse.failures import ExchangeFailed
from app.dataverse.link_bases import LinkBases, LinkKind, Seal

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = "https://contoso.crm4.dynamics.com"
BROKER = "https://broker.example/environments/contoso"
BASES = LinkBases(environment=HERE, broker=BROKER)


def seal_for(number: int) -> Seal:
    def seal(kind: LinkKind, owner: str, url: str) -> str | None:
        return None if "unsealable" in url else f"{BROKER}/sealed?{number}{kind}{owner}"

    return seal


def rewritten(
    *chunks: bytes, boundary: bytes = b"batchresponse_1", operations: Sequence[int] | None = None
) -> bytes:
    rewriter = BatchAnswerRewriter(boundary, bases=BASES, seal_for=seal_for, operations=operations)
    return b"".join([rewriter.feed(chunk) for chunk in chunks]) + rewriter.finish()


def at_every_cut(data: bytes, *, operations: Sequence[int] | None = None) -> bytes:
    whole = rewritten(data, operations=operations)
    for at in range(1, len(data)):
        assert rewritten(data[:at], data[at:], operations=operations) == whole
    assert rewritten(*[data[i : i + 1] for i in range(len(data))], operations=operations) == whole
    return whole


# As in dataverse-reference 3.15: a change set of one POST, and a GET.
ANSWER = b"""\
--batchresponse_1\r
Content-Type: multipart/mixed; boundary=changesetresponse_2\r
\r
--changesetresponse_2\r
Content-Type: application/http\r
Content-Transfer-Encoding: binary\r
Content-ID: 1\r
\r
HTTP/1.1 204 No Content\r
OData-Version: 4.0\r
Set-Cookie: ARRAffinity=1\r
Location: %(here)s/api/data/v9.2/tasks(e73ffc82-e292-ed11-aad1-000d3a9933c9)\r
OData-EntityId: %(here)s/api/data/v9.2/tasks(e73ffc82-e292-ed11-aad1-000d3a9933c9)\r
\r
\r
--changesetresponse_2--\r
--batchresponse_1\r
Content-Type: application/http\r
Content-Transfer-Encoding: binary\r
\r
HTTP/1.1 200 OK\r
Content-Type: application/json; odata.metadata=minimal; odata.streaming=true\r
WWW-Authenticate: Bearer authorization_uri=https://login.microsoftonline.com/x\r
OData-Version: 4.0\r
\r
{"@odata.context":"%(here)s/api/data/v9.2/$metadata#tasks(subject)","value":[{"subject":"%(here)s"}],"@odata.nextLink":"%(here)s/api/data/v9.2/tasks?$skiptoken=1"}\r
--batchresponse_1--\r
""".replace(b"%(here)s", HERE.encode())


def test_a_batch_answer_keeps_its_bytes_but_for_links_and_headers_that_do_not_travel() -> None:
    expected = ANSWER
    for line in (
        b"Set-Cookie: ARRAffinity=1\r\n",
        b"WWW-Authenticate: Bearer authorization_uri=https://login.microsoftonline.com/x\r\n",
    ):
        expected = expected.replace(line, b"")
    expected = expected.replace(HERE.encode() + b"/api", BROKER.encode() + b"/api")
    expected = expected.replace(
        BROKER.encode() + b"/api/data/v9.2/tasks?$skiptoken=1",
        BROKER.encode() + b"/sealed?1nextLink",
    )
    assert at_every_cut(ANSWER) == expected
    assert b'"subject":"' + HERE.encode() + b'"' in expected


def test_bare_line_feeds_are_kept() -> None:
    data = ANSWER.replace(b"\r\n", b"\n")
    assert at_every_cut(data) == rewritten(ANSWER).replace(b"\r\n", b"\n")


def test_a_last_boundary_may_do_without_its_line_end() -> None:
    data = ANSWER.removesuffix(b"\r\n")
    assert at_every_cut(data) == rewritten(ANSWER).removesuffix(b"\r\n")


def test_what_stands_around_the_parts_is_kept() -> None:
    data = b"preamble\r\n" + ANSWER + b"epilogue\r\n--batchresponse_1\r\n"
    assert at_every_cut(data) == b"preamble\r\n" + rewritten(ANSWER) + data[-29:]


def part(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    return (
        b"--batchresponse_1\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 %b\r\n" % status
        + b"".join(header + b"\r\n" for header in headers)
        + b"\r\n"
        + body
        + b"\r\n"
    )


END = b"--batchresponse_1--\r\n"
JSON = b"Content-Type: application/json"
NEXT = b'{"@odata.nextLink":"' + HERE.encode() + b'/x"}'


def sealed(number: int) -> bytes:
    return b'{"@odata.nextLink":"%b/sealed?%dnextLink"}' % (BROKER.encode(), number)


def change_set(*bodies: bytes) -> bytes:
    inner = b"".join(
        part(body, JSON).replace(b"--batchresponse_1", b"--changesetresponse_2") for body in bodies
    )
    return (
        b"--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_2\r\n\r\n"
        + inner
        + b"--changesetresponse_2--\r\n"
    )


def test_parts_are_counted_in_the_order_of_operations() -> None:
    data = part(NEXT, JSON) + change_set(NEXT, NEXT) + part(NEXT, JSON) + END
    out = at_every_cut(data)
    assert [out.index(sealed(number)) for number in range(4)] == sorted(
        out.index(sealed(number)) for number in range(4)
    )
    assert at_every_cut(data, operations=(1, 2, 1)) == out


def test_a_change_set_that_failed_counts_for_all_its_operations() -> None:
    failed = part(b'{"error":{}}', JSON, status=b"400 Bad Request")
    data = failed + part(NEXT, JSON) + END
    assert sealed(3) in at_every_cut(data, operations=(3, 1))
    assert sealed(1) in at_every_cut(data)


def test_a_part_too_many_belongs_to_no_operation() -> None:
    for data in (part(NEXT, JSON) * 2 + END, change_set(NEXT, NEXT) + END):
        out = at_every_cut(data, operations=(1,))
        assert sealed(0) in out
        assert sealed(1) in out


def test_a_part_that_is_no_json_stays_as_it_is() -> None:
    body = b"\0\r\n--batch\r\n\r--batchresponse_12\r\n" + NEXT + b"\n-"
    data = part(body, b"Content-Type: application/octet-stream") + END
    assert at_every_cut(data) == data


def test_a_length_is_put_right() -> None:
    data = part(NEXT, JSON, b"content-length: %d" % len(NEXT), b"ETag: x") + END
    out = at_every_cut(data)
    assert out == part(sealed(0), JSON, b"content-length: %d" % len(sealed(0)), b"ETag: x") + END


def test_a_length_too_great_to_wait_for_is_dropped() -> None:
    body = b'{"x":"' + b"y" * LENGTH_HELD_BYTES + b'"}'
    data = part(body, JSON, b"Content-Length: %d" % len(body)) + END
    rewriter = BatchAnswerRewriter(b"batchresponse_1", bases=BASES, seal_for=seal_for)
    held = 0
    out = b""
    for i in range(0, len(data), 4096):
        out += rewriter.feed(data[i : i + 4096])
        held = max(held, min(len(data), i + 4096) - len(out))
    assert out + rewriter.finish() == part(body, JSON) + END
    assert held < 16_384


def test_links_elsewhere_are_dropped_from_a_part() -> None:
    data = part(
        b'{"@odata.nextLink":"https://elsewhere.example/"}',
        JSON,
        b"Location: https://elsewhere.example/",
        b"OData-EntityId: " + HERE.encode() + b"/a(1)",
    )
    expected = part(b"{}", JSON, b"OData-EntityId: " + BROKER.encode() + b"/a(1)")
    assert at_every_cut(data + END) == expected + END


def test_the_address_of_a_transfer_is_sealed_in_a_part_too() -> None:
    location = b"Location: " + HERE.encode() + b"/a(1)/file?sessiontoken=x"
    out = rewritten(part(b"", location) + part(b"", location.replace(b"=x", b"=unsealable")) + END)
    assert out.count(b"Location") == 1
    assert BROKER.encode() + b"/sealed?0session\r\n" in out


def test_a_head_may_end_at_the_boundary() -> None:
    data = part(b"", b"OData-Version: 4.0", status=b"204 No Content").removesuffix(b"\r\n")
    assert at_every_cut(data + END) == data + END
    without_blank_line = data.removesuffix(b"\r\n")
    assert at_every_cut(without_blank_line + END) == without_blank_line + END


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no end"),
        (ANSWER[:-30], "no end"),
        (part(NEXT, JSON), "no end"),
        (b"--batchresponse_1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + END, "no answer to an operation"),
        (part(NEXT, JSON).replace(b"application/http", b"text/plain") + END, "no answer"),
        (part(NEXT, JSON).replace(b"HTTP/1.1 200", b"HTTP/1.1 2000") + END, "cannot be read"),
        (part(NEXT, JSON).replace(b"HTTP/1.1", b"HTTP/2") + END, "without a status line"),
        (part(NEXT, JSON, b" folded: x") + END, "cannot be read"),
        (part(NEXT, JSON, b"X : y") + END, "cannot be read"),
        (part(NEXT, JSON, b"X: a\rb") + END, "cannot be read"),
        (part(NEXT, JSON, b"Content-Encoding: gzip") + END, "content coding"),
        (part(NEXT, JSON, b"Content-Length: x") + END, "no number"),
        (part(NEXT, JSON, b"Content-Length: 1", b"Content-Length: 1") + END, "two lengths"),
        (part(NEXT, b"Content-Type: text/plain", JSON) + END, "two types"),
        (part(NEXT, JSON + b"; charset=utf-16") + END, "no UTF-8"),
        (part(NEXT, JSON, b"X: " + b"y" * PART_HEAD_MAX_BYTES) + END, "head of more than"),
        (change_set(change_set(NEXT)) + END, "no answer to an operation"),
        (
            change_set(NEXT).replace(b"changesetresponse_2", b"batchresponse_1") + END,
            "with the boundary of the batch",
        ),
        (
            b"--batchresponse_1\r\nContent-Type: application/http\r\nContent-Length: 5\r\n\r\n"
            + part(NEXT, JSON).partition(b"\r\n\r\n")[2]
            + END,
            "outside of its HTTP head",
        ),
    ],
)
def test_what_is_no_batch_answer_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ExchangeFailed, match=why) as caught:
        rewritten(data)
    assert caught.value.code == "upstream-malformed"
    with pytest.raises(ExchangeFailed, match=why):
        rewritten(*[data[i : i + 7] for i in range(0, len(data), 7)])


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/mixed; boundary=batchresponse_1", b"batchresponse_1"),
        (b'multipart/mixed; Boundary="batch response"; x=y', b"batch response"),
    ],
)
def test_the_boundary_stands_in_the_content_type(content_type: bytes, boundary: bytes) -> None:
    assert batch_boundary(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [b"multipart/mixed", b"multipart/mixed; boundary=", b"x; boundary=" + b"x" * 201],
)
def test_no_boundary_is_refused(content_type: bytes) -> None:
    with pytest.raises(ExchangeFailed, match="boundary"):
        batch_boundary(content_type)


# ------------------------------------------------------------------ properties

_BODIES = st.sampled_from(
    [
        (JSON, NEXT),
        (JSON, b'{"value":[]}'),
        (JSON, b"{}" + b" " * 3000),
        (b"Content-Type: application/octet-stream", b"\r\n--batchresponse_\r\n\n"),
        (b"Content-Type: text/plain", b"1234"),
        (b"ETag: x", b""),
    ]
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    items = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            header, body = draw(_BODIES)
            extra = [b"Content-Length: %d" % len(body)] if draw(st.booleans()) else []
            items.append(part(body, header, *extra))
        else:
            items.append(change_set(*draw(st.lists(st.just(NEXT) | st.just(b"{}"), max_size=3))))
    return b"".join(items) + END


@given(answers(), st.lists(st.floats(0, 1), max_size=10))
def test_the_stream_is_cut_anywhere_and_read_alike(data: bytes, places: list[float]) -> None:
    whole = rewritten(data)
    edges = [0, *sorted(int(place * len(data)) for place in places), len(data)]
    assert rewritten(*[data[a:b] for a, b in itertools.pairwise(edges)]) == whole
    assert HERE.encode() not in whole
    assert _shape(whole) == _shape(data)


def _shape(data: bytes) -> list[str]:
    """What a MIME parser of other people's makes of it."""
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        b"Content-Type: multipart/mixed; boundary=batchresponse_1\r\n\r\n" + data
    )
    return [leaf.get_content_type() for leaf in message.walk()]


def test_every_json_part_is_json_afterwards() -> None:
    data = part(NEXT, JSON) + part(NEXT.replace(b"/x", b"/unsealable"), JSON) + END
    bodies = [
        piece.partition(b"\r\n\r\n")[2].partition(b"\r\n\r\n")[2]
        for piece in rewritten(data).split(b"--batchresponse_1\r\n")[1:]
    ]
    assert [json.loads(body.split(b"\r\n")[0]) for body in bodies] == [json.loads(sealed(0)), {}]

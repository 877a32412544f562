"""Write a request from what was read: never the caller's bytes, except a file's.

What was judged is what is sent: target, headers and body all come from the `Reading`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.odata.body import Record
from app.odata.json_text import write_json
from app.odata.links import Bases, Reference
from app.odata.query import write_options
from app.odata.reading import Batch, ChangeSet, Parameters, Part, Reading, Stream, Targets, Value
from app.odata.target import write_path, write_query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.odata.reading import Body

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sending:
    """What the grant and the environment add to every request that is written."""

    bases: Bases
    mscrm: Mapping[str, str] = field(default_factory=dict)
    """MSCRM.* headers that may travel: lower case to the way they are written."""
    page_size: int | None = None
    """Rows a page that the grant sets; clamps, and is added where nothing else bounds a page."""
    adds_page_size: bool = True
    caller_object_id: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request for Dataverse. `streams` says that the caller's body passes unread.

    `dropped` are headers and preferences that do not travel and would have meant something.
    """

    method: str
    target: str
    headers: Pairs = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    streams: bool = False
    dropped: tuple[str, ...] = ()


def write(reading: Reading, sending: Sending) -> Outgoing:
    """The request as Dataverse gets it. `target` is the path from the host's root."""
    headers, dropped = _headers(reading, sending)
    body: bytes | None = None
    if isinstance(reading.body, Batch):
        body, boundary, more = _batch(reading.body, sending)
        headers.append(("Content-Type", f'multipart/mixed; boundary="{boundary}"'))
        dropped.extend(more)
    else:
        body = write_body(reading.body, sending.bases)
        if body is not None:
            headers.append(("Content-Type", _json_type(reading)))
        elif isinstance(reading.body, Stream) and reading.headers.content_type is not None:
            headers.append(("Content-Type", reading.headers.content_type))
    if sending.caller_object_id is not None:
        headers.append(("CallerObjectId", sending.caller_object_id))
    return Outgoing(
        method=reading.method,
        target=f"/api/data/{sending.bases.version}/{write_reading_target(reading)}",
        headers=tuple(headers),
        body=body,
        streams=isinstance(reading.body, Stream),
        dropped=tuple(dict.fromkeys(dropped)),
    )


def write_reading_target(reading: Reading) -> str:
    """Path and query below the service root, percent-encoded."""
    path = write_path(tuple(s.text() for s in reading.path))
    query = write_query(write_options(reading.query))
    return f"{path}?{query}" if query else path


def _json_type(reading: Reading) -> str:
    return reading.headers.content_type or "application/json"


def write_body(body: Body, bases: Bases) -> bytes | None:
    if isinstance(body, Record):
        return write_json(body.json())
    if isinstance(body, Value):
        return write_json({"value": body.value})
    if isinstance(body, Targets):
        return write_json({"Targets": [r.json() for r in body.records]})
    if isinstance(body, Reference):
        link = body.relative()
        if body.absolute:
            link = bases.service + link
        return write_json({"@odata.id": link})
    if isinstance(body, Parameters):
        return None if body.value is None else write_json(body.value)
    return None


def _headers(reading: Reading, sending: Sending) -> tuple[list[tuple[str, str]], list[str]]:
    read = reading.headers
    dropped = list(read.dropped)
    accept = read.accept if reading.file and read.accept is not None else read.accept_json
    headers = [
        ("Accept", accept),
        ("OData-Version", "4.0"),
        ("OData-MaxVersion", "4.0"),
        *read.travelling,
    ]
    if read.if_match is not None:
        headers.append(("If-Match", read.if_match))
    if read.if_none_match is not None:
        if reading.method in {"GET", "PATCH", "POST"}:
            headers.append(("If-None-Match", read.if_none_match))
        else:
            dropped.append("If-None-Match")
    prefer = _prefer(reading, sending)
    if prefer is not None:
        headers.append(("Prefer", prefer))
    for name, value in read.mscrm:
        written = sending.mscrm.get(name)
        if written is None:
            dropped.append(_as_documented(name))
        else:
            headers.append((written, value))
    if reading.file:
        headers.extend(read.file)
    return headers, dropped


def _prefer(reading: Reading, sending: Sending) -> str | None:
    wanted = reading.headers.preferences
    size = wanted.max_page_size
    limit = sending.page_size
    if size is not None and limit is not None:
        size = min(size, limit)
    rows = reading.returns is not None and reading.returns.collection and reading.returns.selects
    if size is None and limit is not None and rows and sending.adds_page_size:
        # Beside $top Dataverse would ignore $top.
        fetched = reading.query.fetch
        bounded = reading.query.top is not None or (
            fetched is not None
            and (fetched.root.get("count") is not None or fetched.root.get("top") is not None)
        )
        size = None if bounded else limit
    parts: list[str] = []
    if size is not None:
        parts.append(f"odata.maxpagesize={size}")
    if wanted.annotations is not None:
        parts.append(f'odata.include-annotations="{wanted.annotations}"')
    if wanted.returning is not None:
        parts.append(f"return={wanted.returning}")
    if wanted.continue_on_error:
        parts.append("odata.continue-on-error")
    if wanted.track_changes:
        parts.append("odata.track-changes")
    return ",".join(parts) or None


_DOCUMENTED = {
    name.lower(): name
    for name in (
        "MSCRM.SuppressDuplicateDetection",
        "MSCRM.BypassBusinessLogicExecution",
        "MSCRM.BypassBusinessLogicExecutionStepIds",
        "MSCRM.BypassCustomPluginExecution",
        "MSCRM.SuppressCallbackRegistrationExpanderJob",
        "MSCRM.SolutionUniqueName",
        "MSCRM.MergeLabels",
        "MSCRM.SessionToken",
    )
}


def _as_documented(name: str) -> str:
    return _DOCUMENTED.get(name, name)


# ---------------------------------------------------------------- batches


def _batch(batch: Batch, sending: Sending) -> tuple[bytes, str, list[str]]:
    """The multipart body, its boundary and what was dropped in its parts.

    Boundaries come from the content's digest, so nothing inside can hold them.
    """
    dropped: list[str] = []
    pieces: list[bytes | list[bytes]] = []
    for item in batch.items:
        if isinstance(item, ChangeSet):
            pieces.append([_part(p, sending, dropped) for p in item.parts])
        else:
            pieces.append(_part(item, sending, dropped))
    digest = hashlib.sha256(repr(pieces).encode()).hexdigest()[:32]
    outer = f"batch_{digest}"
    body: list[bytes] = []
    for number, piece in enumerate(pieces, 1):
        body.append(b"--%b\r\n" % outer.encode())
        if isinstance(piece, bytes):
            body.append(piece)
            continue
        inner = f"changeset_{number}_{digest}"
        body.append(b'Content-Type: multipart/mixed; boundary="%b"\r\n\r\n' % inner.encode())
        for part in piece:
            body.append(b"--%b\r\n" % inner.encode())
            body.append(part)
        body.append(b"--%b--\r\n\r\n" % inner.encode())
    body.append(b"--%b--\r\n" % outer.encode())
    return b"".join(body), outer, dropped


def _part(part: Part, sending: Sending, dropped: list[str]) -> bytes:
    reading = part.reading
    headers, lost = _headers(reading, sending)
    dropped.extend(lost)
    body = write_body(reading.body, sending.bases)
    if body is not None:
        headers.append(("Content-Type", _json_type(reading)))
    if reading.headers.caller_object_id is not None:
        headers.append(("CallerObjectId", reading.headers.caller_object_id))
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if part.content_id is not None:
        lines.append(f"Content-ID: {part.content_id}")
    lines += ["", f"{reading.method} {write_reading_target(reading)} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"") + b"\r\n"

"""Write a request from what was read: never the caller's bytes, except a file's.

What was judged is what is sent: target, headers and body all come from the `Reading`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from app.odata.body import Record
from app.odata.headers import documented
from app.odata.json_text import write_json
from app.odata.links import Bases, Reference
from app.odata.media import json_accept
from app.odata.preferences import write_preferences
from app.odata.query import EMPTY, write_options
from app.odata.reading import Batch, ChangeSet, Parameters, Part, Reading, Targets, Value
from app.odata.target import write_path, write_query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.odata.reading import Body

Pairs = tuple[tuple[str, str], ...]

PAGE_SIZE_MAX = 5000
"""Rows a page where the grant sets none; Dataverse's own maximum (dataverse-reference 3.4)."""


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


class Outgoing(msgspec.Struct, frozen=True):
    """A request for Dataverse. `streams` says that the caller's body passes unread.

    `dropped` are headers and preferences that do not travel and would have meant something;
    `part_targets` are what a batch's parts address, in order, written like `target` but from the
    service root.
    """

    method: str
    target: str
    headers: Pairs
    body: bytes | None = None
    streams: bool = False
    dropped: tuple[str, ...] = ()
    part_targets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Outgoing({self.method}, …)"


def write(reading: Reading, sending: Sending) -> Outgoing:
    """The request as Dataverse gets it. `target` is the path from the host's root."""
    headers, dropped = _headers(reading, sending)
    body: bytes | None
    part_targets: list[str] = []
    if isinstance(reading.body, Batch):
        body, boundary = _batch(reading.body, sending, dropped, part_targets)
        headers.append(("Content-Type", f'multipart/mixed; boundary="{boundary}"'))
    else:
        body = write_body(reading.body, sending.bases)
        content_type = _content_type(reading, body)
        if content_type is not None:
            headers.append(("Content-Type", content_type))
    if sending.caller_object_id is not None:
        headers.append(("CallerObjectId", sending.caller_object_id))
    return Outgoing(
        method=reading.method,
        target=sending.bases.root + write_reading_target(reading),
        headers=tuple(headers),
        body=body,
        streams=reading.streams,
        dropped=tuple(dict.fromkeys(dropped)) if dropped else (),
        part_targets=tuple(part_targets),
    )


def write_reading_target(reading: Reading) -> str:
    """Path and query below the service root, percent-encoded."""
    path = write_path(tuple([s.text() for s in reading.path]))
    if reading.query is EMPTY:
        return path
    query = write_query(write_options(reading.query))
    return f"{path}?{query}" if query else path


def _content_type(reading: Reading, body: bytes | None) -> str | None:
    if body is None and not reading.streams:
        return None
    return reading.headers.content_type or (None if reading.streams else "application/json")


def write_body(body: Body, bases: Bases) -> bytes | None:
    if body is None:
        return None
    if isinstance(body, Record):
        return write_json(body.json())
    if isinstance(body, Value):
        return write_json({"value": body.value})
    if isinstance(body, Targets):
        return write_json({"Targets": [r.json() for r in body.records]})
    if isinstance(body, Reference):
        link = body.relative()
        return write_json({"@odata.id": bases.service + link if body.absolute else link})
    if isinstance(body, Parameters):
        return None if body.value is None else write_json(body.value)
    return None


def _headers(reading: Reading, sending: Sending) -> tuple[list[tuple[str, str]], list[str]]:
    read = reading.headers
    dropped = list(read.dropped)
    accept = read.accept if reading.file else json_accept(read.accept)
    headers = [] if accept is None else [("Accept", accept)]
    headers += [("OData-Version", "4.0"), ("OData-MaxVersion", "4.0"), *read.travelling]
    if read.if_match is not None:
        headers.append(("If-Match", read.if_match))
    if read.if_none_match is not None:
        headers.append(("If-None-Match", read.if_none_match))
    prefer = write_preferences(read.preferences, _page_size(reading, sending))
    if prefer is not None:
        headers.append(("Prefer", prefer))
    for name, value in read.mscrm:
        written = sending.mscrm.get(name)
        if written is None:
            dropped.append(documented(name))
        else:
            headers.append((written, value))
    if reading.file:
        headers += read.file
    return headers, dropped


def _page_size(reading: Reading, sending: Sending) -> int | None:
    asked = reading.headers.preferences.max_page_size
    if asked is not None:
        return min(asked, sending.page_size or PAGE_SIZE_MAX)
    if sending.page_size is None or not sending.adds_page_size:
        return None
    returns = reading.returns
    if returns is None or not returns.collection or not returns.selects:
        return None
    # Beside $top Dataverse would ignore $top.
    query = reading.query
    if query.top is not None:
        return None
    if query.fetch is not None and (query.fetch.root.get("count") or query.fetch.root.get("top")):
        return None
    return sending.page_size


# ---------------------------------------------------------------- batches


def _batch(
    batch: Batch, sending: Sending, dropped: list[str], targets: list[str]
) -> tuple[bytes, str]:
    """The multipart body and its boundary; adds what its parts drop, and what they address.

    Boundaries come from the content's digest, so nothing inside can hold them.
    """
    digest = hashlib.sha256()
    items: list[bytes | list[bytes]] = []
    for item in batch.items:
        if isinstance(item, ChangeSet):
            parts = [_part(p, sending, dropped, targets) for p in item.parts]
            items.append(parts)
        else:
            parts = [_part(item, sending, dropped, targets)]
            items.append(parts[0])
        for part in parts:
            digest.update(part)
    name = digest.hexdigest()[:32]
    outer = f"batch_{name}"
    delimiter = b"--%b\r\n" % outer.encode()
    body: list[bytes] = []
    for number, content in enumerate(items, 1):
        body.append(delimiter)
        if isinstance(content, bytes):
            body.append(content)
            continue
        inner = f"changeset_{number}_{name}".encode()
        body.append(b'Content-Type: multipart/mixed; boundary="%b"\r\n\r\n' % inner)
        for part in content:
            body += (b"--%b\r\n" % inner, part)
        body.append(b"--%b--\r\n\r\n" % inner)
    body.append(b"--%b--\r\n" % outer.encode())
    return b"".join(body), outer


def _part(part: Part, sending: Sending, dropped: list[str], targets: list[str]) -> bytes:
    reading = part.reading
    headers, lost = _headers(reading, sending)
    dropped += lost
    body = write_body(reading.body, sending.bases)
    content_type = _content_type(reading, body)
    if content_type is not None:
        headers.append(("Content-Type", content_type))
    # Whether a part without it would act as the whole batch does, nobody says: each has its own.
    acting = reading.headers.caller_object_id or sending.caller_object_id
    if acting is not None:
        headers.append(("CallerObjectId", acting))
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if part.content_id is not None:
        lines.append(f"Content-ID: {part.content_id}")
    target = write_reading_target(reading)
    targets.append(target)
    lines += ["", f"{reading.method} {target or sending.bases.root} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"") + b"\r\n"

"""`$batch`: multipart/mixed taken apart, each part read as a request of its own.

Clients write it sloppily: bare LF, extra blank lines, no last line break, spaces in URLs. What
is unclear in a way that matters (where a part ends, which URL it means) is refused.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata import media
from app.odata.place import Kind
from app.odata.query import EMPTY
from app.odata.reading import Batch, BodyMode, ChangeSet, Part, Reading
from app.odata.rows import Context, Named

if TYPE_CHECKING:
    from app.odata.read import Head

_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*([^\r\n]*?)[ \t]*")
_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) +(\S(?:[^\r\n]*\S)?) +HTTP/1\.1[ \t]*")
_CONTENT_ID = re.compile(r"[0-9]{1,9}")
_LINE = re.compile(rb"[^\n]*\n?")


@dataclass(frozen=True, slots=True)
class _Mime:
    """A body part: its headers, and what follows the blank line."""

    headers: dict[str, str]
    content: bytes


def read_batch(head: Head, body: bytes) -> Reading:
    """Raises `Unreadable`, naming the part that cannot be read."""
    content_type = head.headers.content_type
    boundary = media.boundary(content_type)
    if boundary is None:
        raise Unreadable(
            "unsupported-media-type",
            "a $batch is multipart/mixed with a boundary, and nothing else",
        )
    if head.query != EMPTY:
        raise Unreadable("bad-query", "$batch takes no options")
    if head.method != "POST":
        raise Unreadable("method-not-allowed", "$batch is a POST")
    batch = _Parts(head).batch(body, boundary)
    return Reading(
        method="POST",
        path=head.path,
        query=head.query,
        headers=head.headers,
        body=batch,
        returns=None,
        accesses=(),
        writes=any(p.reading.writes for p in batch.parts()),
        kind=str(Kind.BATCH),
    )


class _Parts:
    def __init__(self, head: Head) -> None:
        self._head = head
        self._number = 0
        self._ids: set[str] = set()

    def batch(self, body: bytes, boundary: str) -> Batch:
        items: list[Part | ChangeSet] = []
        for mime in _split(body, boundary):
            inner = mime.headers.get("content-type", "")
            if inner.lower().startswith("multipart/"):
                items.append(self._change_set(mime, inner, boundary))
            else:
                items.append(self._part(mime, None))
        if not items:
            raise Unreadable("bad-batch", "the batch has no part")
        return Batch(tuple(items))

    def _change_set(self, mime: _Mime, content_type: str, outer: str) -> ChangeSet:
        boundary = media.boundary(content_type)
        if boundary is None or boundary == outer:
            raise Unreadable("bad-batch", "a change set needs a boundary of its own")
        content: dict[str, Named] = {}
        parts = tuple(self._part(m, content) for m in _split(mime.content, boundary))
        if not parts:
            raise Unreadable("bad-batch", "a change set has no part")
        return ChangeSet(parts)

    def _part(self, mime: _Mime, content: dict[str, Named] | None) -> Part:
        self._number += 1
        number = self._number
        limit = self._head.reader.bounds.batch_parts
        if number > limit:
            raise Unreadable("limit-exceeded", f"the batch has more than {limit} parts")
        try:
            return self._request(mime, content, number)
        except Unreadable as error:
            raise Unreadable(
                error.code, f"part {number}: {error.detail}", extra={**error.extra, "part": number}
            ) from error

    def _request(self, mime: _Mime, content: dict[str, Named] | None, number: int) -> Part:
        media_type = mime.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/http":
            raise Unreadable("bad-batch", "a part is application/http or a change set")
        if mime.headers.get("content-transfer-encoding", "binary").lower() != "binary":
            raise Unreadable("bad-batch", "a part's Content-Transfer-Encoding is binary")
        method, url, headers, body = _http(mime.content)
        content_id = self._content_id(mime, headers)
        if content is not None and method == "GET":
            raise Unreadable("bad-batch", "a change set holds writes; move the GET out of it")
        context = Context(self._head.context.bases, {} if content is None else content)
        target = self._target(url)
        head = self._head.reader.head(method, target, headers, context=context)
        if head.body_mode is BodyMode.STREAM:
            raise Unreadable("bad-batch", "a file is not sent inside a batch")
        reading = head.finish(body or None)
        if content is not None and content_id is not None:
            named = _named(head)
            if named is not None:
                content[content_id] = named
        return Part(number, reading, content_id)

    def _content_id(self, mime: _Mime, headers: list[tuple[bytes, bytes]]) -> str | None:
        found = {v.decode("latin-1") for n, v in headers if n.lower() == b"content-id"}
        if "content-id" in mime.headers:
            found.add(mime.headers["content-id"])
        if not found:
            return None
        content_id = found.pop()
        if found or _CONTENT_ID.fullmatch(content_id) is None:
            raise Unreadable("bad-batch", "a Content-ID is a number, and stands once")
        if content_id in self._ids:
            raise Unreadable("bad-batch", "a Content-ID stands twice in the batch")
        self._ids.add(content_id)
        return content_id

    def _target(self, url: bytes) -> bytes:
        relative = self._head.context.bases.relative(url.decode("latin-1"))
        if relative is None:
            raise Unreadable("bad-batch", "its URL leads to another host, version or environment")
        return relative.encode("latin-1")


def _named(head: Head) -> Named | None:
    place = head.place
    if place.scope is None or place.steps:
        return None
    if place.kind is Kind.ROWS and head.method == "POST":
        return Named(place.scope.sets[0], created=True)
    if place.kind is Kind.ROW and head.method == "PATCH":
        return Named(place.scope.sets[0], created=place.created)
    return None


def _split(body: bytes, boundary: str) -> list[_Mime]:
    """The body parts between delimiter lines. The closing one must be there."""
    delimiter = re.compile(
        rb"^--" + re.escape(boundary.encode("latin-1")) + rb"(--)?[ \t]*\r?$", re.MULTILINE
    )
    marks = list(delimiter.finditer(body))
    if not marks or body[: marks[0].start()].strip():
        raise Unreadable("bad-batch", "the body does not begin with its boundary")
    if marks[-1].group(1) is None or any(m.group(1) for m in marks[:-1]):
        raise Unreadable("bad-batch", "the body does not end with its closing boundary")
    if body[marks[-1].end() :].strip():
        raise Unreadable("bad-batch", "something stands behind the closing boundary")
    return [_mime(body[a.end() : b.start()]) for a, b in itertools.pairwise(marks)]


def _mime(raw: bytes) -> _Mime:
    headers, rest = _headers(raw.removeprefix(b"\r").removeprefix(b"\n"), eager=False)
    found: dict[str, str] = {}
    for name, value in headers:
        lower = name.decode("ascii").lower()
        if lower in found:
            raise Unreadable("bad-batch", "a part names a header twice")
        found[lower] = value.decode("latin-1")
    return _Mime(found, rest)


def _headers(raw: bytes, *, eager: bool) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Header lines up to the blank line (or, `eager`, to the end), and what follows it."""
    headers: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(raw):
        match = _LINE.match(raw, at)
        assert match is not None
        line = match.group().rstrip(b"\r\n")
        at = match.end()
        if not line:
            return headers, raw[at:]
        header = _HEADER.fullmatch(line)
        if header is None or b"\r" in line:
            raise Unreadable("bad-batch", "a part has a line that is no header")
        headers.append((header.group(1), header.group(2)))
    if not eager:
        raise Unreadable("bad-batch", "a part has no blank line behind its headers")
    return headers, b""


def _http(raw: bytes) -> tuple[str, bytes, list[tuple[bytes, bytes]], bytes]:
    """Request line, headers and body of a part."""
    source = raw.lstrip(b"\r\n")
    match = _LINE.match(source)
    assert match is not None
    request = _REQUEST_LINE.fullmatch(match.group().rstrip(b"\r\n"))
    if request is None:
        raise Unreadable("bad-batch", "its request line is not METHOD URL HTTP/1.1")
    headers, body = _headers(source[match.end() :], eager=True)
    return request.group(1).decode("ascii"), request.group(2), headers, body.strip(b"\r\n \t")

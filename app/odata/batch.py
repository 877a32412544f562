"""`$batch`: each part read as a request of its own, and judged like one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata import media
from app.odata.methods import not_taken
from app.odata.multipart import HttpRequest, MimePart, read_http, split
from app.odata.place import Kind
from app.odata.query import EMPTY
from app.odata.reading import Batch, ChangeSet, Part, Reading
from app.odata.rows import Context, Named

if TYPE_CHECKING:
    from app.odata.read import Head

_CONTENT_ID = re.compile(r"[0-9]{1,9}")


def read_batch(head: Head, body: bytes) -> Reading:
    """Raises `Unreadable`, naming the part that cannot be read."""
    boundary = media.boundary(head.headers.content_type)
    if boundary is None:
        raise Unreadable(
            "unsupported-media-type",
            "a $batch is multipart/mixed with a boundary, and nothing else",
        )
    if head.query != EMPTY:
        raise Unreadable("bad-query", "$batch takes no options")
    if head.method != "POST":
        raise not_taken("$batch is a POST", allow=("POST",))
    batch = _Parts(head).batch(body, boundary)
    parts = batch.parts()
    return Reading(
        method="POST",
        path=head.path,
        query=head.query,
        headers=head.headers,
        body=batch,
        returns=None,
        accesses=(),
        sealed_by=_sealed_by(parts),
        writes=any(p.reading.writes for p in parts),
        kind=Kind.BATCH.value,
    )


def _sealed_by(parts: tuple[Part, ...]) -> str | None:
    """The application that its continuations belong to: a batch is sent as one."""
    applications = {p.reading.sealed_by for p in parts} - {None}
    if len(applications) > 1:
        raise Unreadable(
            "unsealed-continuation", "the batch continues what two applications began: send two"
        )
    return applications.pop() if applications else None


class _Parts:
    def __init__(self, head: Head) -> None:
        self._head = head
        self._number = 0
        self._ids: set[str] = set()

    def batch(self, body: bytes, boundary: str) -> Batch:
        items: list[Part | ChangeSet] = []
        for mime in split(body, boundary):
            inner = mime.headers.get("content-type", "")
            if inner[:10].lower() == "multipart/":
                items.append(self._change_set(mime, inner, boundary))
            else:
                items.append(self._part(mime, None))
        if not items:
            raise Unreadable("bad-batch", "the batch has no part")
        return Batch(tuple(items))

    def _change_set(self, mime: MimePart, content_type: str, outer: str) -> ChangeSet:
        boundary = media.boundary(content_type)
        if boundary is None or boundary == outer:
            raise Unreadable("bad-batch", "a change set needs a boundary of its own")
        content: dict[str, Named] = {}
        parts = tuple([self._part(m, content) for m in split(mime.content, boundary)])
        if not parts:
            raise Unreadable("bad-batch", "a change set has no part")
        return ChangeSet(parts)

    def _part(self, mime: MimePart, content: dict[str, Named] | None) -> Part:
        """`content` are the rows that earlier parts of the change set name; None outside one."""
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

    def _request(self, mime: MimePart, content: dict[str, Named] | None, number: int) -> Part:
        media_type = mime.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/http":
            raise Unreadable("bad-batch", "a part is application/http or a change set")
        if mime.headers.get("content-transfer-encoding", "binary").lower() != "binary":
            raise Unreadable("bad-batch", "a part's Content-Transfer-Encoding is binary")
        request = read_http(mime.content)
        content_id = self._content_id(mime, request)
        if content is not None and request.method == "GET":
            raise Unreadable("bad-batch", "a change set holds writes; move the GET out of it")
        context = Context(self._head.context.bases, {} if content is None else content)
        head = self._head.reader.head(
            request.method, self._target(request.url), request.headers, context=context
        )
        reading = head.finish(request.body or None)
        if content is not None and content_id is not None:
            named = _named(head)
            if named is not None:
                content[content_id] = named
        return Part(number, reading, content_id)

    def _content_id(self, mime: MimePart, request: HttpRequest) -> str | None:
        """Clients write it among the part's own headers or among the request's."""
        found = [v.decode("latin-1") for n, v in request.headers if n.lower() == b"content-id"]
        if "content-id" in mime.headers:
            found.append(mime.headers["content-id"])
        if not found:
            return None
        content_id = found[0]
        if len(set(found)) > 1 or _CONTENT_ID.fullmatch(content_id) is None:
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
    """What a Content-ID names: the row that the part makes or changes."""
    place = head.place
    if place.scope is None or place.steps:
        return None
    if place.kind is Kind.ROWS and head.method == "POST":
        return Named(place.scope.sets[0], created=True)
    if place.kind is Kind.ROW and head.method == "PATCH":
        return Named(place.scope.sets[0], created=place.created)
    return None

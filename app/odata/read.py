"""Read a request: head first, then the body in the way that the head asks for.

`RequestReader.head` reads method, target and headers; its `body_mode` says how the body has to
be taken in, and its `finish` gives the `Reading`. What cannot be read raises `Unreadable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from app.errors import Unreadable
from app.odata.batch import read_batch
from app.odata.body_reader import BodyReader
from app.odata.demands import Findings
from app.odata.gets import GetReader
from app.odata.headers import RequestHeaders, read_headers
from app.odata.media import is_json
from app.odata.methods import METHODS, not_taken
from app.odata.options import read_options
from app.odata.place import Kind, Place, Walker
from app.odata.reading import BodyMode, Precondition, Reading
from app.odata.resolve import Resolver
from app.odata.rows import Context
from app.odata.segments import Segment, read_segment
from app.odata.target import Target, read_target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.odata.links import Bases
    from app.odata.query import Query
    from app.schema.model import Schema


class Bounds(msgspec.Struct, frozen=True):
    """A grant's limits, as far as reading needs them."""

    expand_depth: int = 3
    page_size: int = 5000
    batch_parts: int = 1000
    body_bytes: int = 16 * 1024 * 1024


class SealCheck(Protocol):
    """Whose seal a continuation carries: the application's name, or None where it does not hold."""

    def __call__(self, seal: str, target: Target) -> str | None: ...


class Head(msgspec.Struct, frozen=True):
    """A request's head, read. `finish` takes the body, as `body_mode` asks for it."""

    reader: RequestReader
    method: str
    place: Place
    path: tuple[Segment, ...]
    query: Query
    headers: RequestHeaders
    resolver: Resolver
    context: Context
    body_mode: BodyMode
    precondition: Precondition
    sealed_by: str | None
    seal: str | None

    def finish(self, body: bytes | None) -> Reading:
        """Raises `Unreadable`."""
        if self.body_mode is BodyMode.NONE and body:
            raise Unreadable("bad-body", f"this {self.method} takes no body")
        if self.body_mode is BodyMode.BATCH:
            return read_batch(self, body or b"")
        if self.method == "GET":
            return GetReader(self).reading()
        return BodyReader(self).reading(body)


class RequestReader:
    """Reads requests against one schema, for one grant's bounds, in one environment."""

    def __init__(
        self, schema: Schema, bases: Bases, *, bounds: Bounds, check_seal: SealCheck | None = None
    ) -> None:
        self.schema = schema
        self.bases = bases
        self.bounds = bounds
        self._check_seal = check_seal

    def read(
        self,
        method: str,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes | None = None,
    ) -> Reading:
        """The whole request at once. `target` is what stands behind the service root."""
        return self.head(method, target, headers).finish(body)

    def head(
        self,
        method: str,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        *,
        context: Context | None = None,
    ) -> Head:
        """`context` is a batch part's. Raises `Unreadable`."""
        part = context is not None
        if method not in METHODS:
            raise not_taken(
                f"the method {_shown(method)} is not the Web API's", allow=tuple(sorted(METHODS))
            )
        at = read_target(target, inner=part)
        read = read_headers(headers, part=part)
        path = tuple([read_segment(s) for s in at.segments])
        query, seal = read_options(at.options)
        _bound_page(query, self.bounds.page_size)
        sealed_by = self._sealed_by(at, query, seal)
        found = Findings()
        resolver = Resolver(
            self.schema, found, self.bounds.expand_depth, aliases=dict(query.aliases)
        )
        known = context or Context(self.bases)
        place = Walker(resolver, known, method).walk(path)
        return Head(
            reader=self,
            method=method,
            place=place,
            path=path,
            query=query,
            headers=read,
            resolver=resolver,
            context=known,
            body_mode=_body_mode(method, place, read, part=part),
            precondition=_precondition(method, place, read),
            sealed_by=sealed_by,
            seal=seal,
        )

    def _sealed_by(self, target: Target, query: Query, seal: str | None) -> str | None:
        continues = query.continued() or any(n == "sessiontoken" for n, _ in query.plain)
        if not continues:
            if seal is not None:
                raise Unreadable("unsealed-continuation", "a seal without a continuation")
            return None
        application = None
        if seal is not None and self._check_seal is not None:
            application = self._check_seal(seal, target)
        if application is None:
            raise Unreadable(
                "unsealed-continuation",
                "a continuation is followed as the broker handed it out;"
                " begin again with the first page",
            )
        return application


def _bound_page(query: Query, page_size: int) -> None:
    asked = [query.top or 0]
    if query.fetch is not None:
        asked += [int(query.fetch.root.get(n) or 0) for n in ("count", "top")]
    pending = list(query.expand)
    while pending:
        inner = pending.pop().query
        asked.append(inner.top or 0)
        pending.extend(inner.expand)
    if max(asked) > page_size:
        raise Unreadable(
            "limit-exceeded", f"more than this grant's {page_size} rows a page: use paging"
        )


def _shown(method: str) -> str:
    return method if method.isalpha() and len(method) <= 20 else "(unprintable)"


def _body_mode(method: str, place: Place, headers: RequestHeaders, *, part: bool) -> BodyMode:
    if method in {"GET", "DELETE"}:
        return BodyMode.NONE
    if place.kind is Kind.BATCH:
        if part:
            raise Unreadable("bad-batch", "a batch cannot hold another batch")
        return BodyMode.BATCH
    if place.kind is Kind.UNKNOWN:
        # It may be a file's column that nobody knows: refused like one that is not granted.
        bytes_come = method in {"PATCH", "PUT"} and not is_json(headers.content_type)
    else:
        bytes_come = place.kind is Kind.COLUMN and place.may_be_file
        bytes_come = bytes_come and not (method == "PUT" and is_json(headers.content_type))
    if not bytes_come:
        return BodyMode.JSON
    if part:
        raise Unreadable("bad-batch", "a file is not sent inside a batch")
    return BodyMode.STREAM


def _precondition(method: str, place: Place, headers: RequestHeaders) -> Precondition:
    if method != "PATCH" or place.kind not in {Kind.ROW, Kind.UNKNOWN}:
        return Precondition.NOT_ASKED
    if headers.if_match is not None:
        if headers.if_none_match is not None:
            raise Unreadable("bad-header", "If-Match and If-None-Match contradict each other")
        return Precondition.EXISTS
    if headers.if_none_match is None:
        return Precondition.OPEN
    if headers.if_none_match != "*":
        raise Unreadable("bad-header", "on a PATCH, If-None-Match is *")
    return Precondition.ABSENT

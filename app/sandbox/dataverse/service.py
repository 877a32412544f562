"""The Web API below /api/data/v9.x: from a request to an answer, without ASGI or tokens."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from app.sandbox.dataverse.batch import Batch
from app.sandbox.dataverse.changing import Changes
from app.sandbox.dataverse.csdl import metadata_document
from app.sandbox.dataverse.failures import Failed, bad_request, not_allowed
from app.sandbox.dataverse.files import Files
from app.sandbox.dataverse.footprint import CALL, METADATA
from app.sandbox.dataverse.messages import Answer, Request, failure_answer, json_answer
from app.sandbox.dataverse.metadata import ROOTS, read_definitions
from app.sandbox.dataverse.operate import Operate
from app.sandbox.dataverse.operations import OPERATIONS
from app.sandbox.dataverse.query import Reader
from app.sandbox.dataverse.reading import read
from app.sandbox.dataverse.resources import Operation, Property, Resolver
from app.sandbox.dataverse.targets import Query, Segment, read_query, read_segments
from app.sandbox.dataverse.write import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from app.sandbox.dataverse.messages import Headers
    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.store import Store

_NAMES = frozenset(OPERATIONS)
_METHODS = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE"})


class Service:
    """One environment's Web API."""

    def __init__(
        self, store: Store, clock: Callable[[], datetime], act_as: Callable[[User, Headers], User]
    ) -> None:
        self._store = store
        self._clock = clock
        self._act_as = act_as
        self._files = Files(store)
        self._metadata: bytes | None = None

    def handle(self, request: Request) -> Answer:
        """Every answer, refusals included; raises nothing that a request can bring about."""
        try:
            return self._answer(request)
        except Failed as failed:
            return failure_answer(failed)
        except (sqlite3.Error, OverflowError) as error:
            # Numbers and expressions beyond what the database can hold.
            return failure_answer(bad_request(f"The request cannot be carried out: {error}."))

    def _answer(self, request: Request) -> Answer:
        if request.method not in _METHODS:
            raise not_allowed(request.method)
        segments = read_segments(self._referred(request))
        query = read_query(request.query)
        if not segments:
            return self._document(request)
        first = segments[0]
        if first.name == "$metadata" and len(segments) == 1:
            request.user.footprint.add(METADATA, "$metadata")
            return self._csdl(request)
        if first.name == "$batch" and len(segments) == 1:
            if request.method != "POST":
                raise not_allowed(request.method)
            return Batch(self._store, request, handle=self.handle, act_as=self._act_as).answer()
        if first.name in ROOTS:
            request.user.footprint.add(METADATA, request.path)
            return read_definitions(self._store.schema, request, segments, query)
        return self._resource(request, segments, query)

    def _referred(self, request: Request) -> str:
        """The path, with a leading `$1` replaced by what it stands for in a change set."""
        head, slash, rest = request.path.partition("/")
        if not head.startswith("$") or not head[1:].isdigit():
            return request.path
        known = (request.references or {}).get(head[1:])
        if known is None:
            raise Failed(
                400,
                "0x80060888",
                f"Content-ID Reference: '{head}' does not exist in the batch context.",
            )
        return known + slash + rest

    def _resource(self, request: Request, segments: Sequence[Segment], query: Query) -> Answer:
        store, now = self._store, self._clock()
        found = Resolver(store, request.user, _NAMES, query.aliases).resolve(segments)
        if isinstance(found, Property) and self._files.holds(found):
            answer = self._files.answer(request, found, query)
            if answer is not None:
                return answer
        reader = Reader(
            store,
            base=request.base,
            user=request.user,
            now=now,
            preferences=request.preferences,
        )
        if request.method == "GET" and not isinstance(found, Operation):
            return read(store, reader, request, found, query)
        writer = Writer(
            store,
            base=request.base,
            user=request.user,
            now=now,
            references=request.references,
        )
        with store.transaction():
            if isinstance(found, Operation):
                request.user.footprint.add(CALL, found.name)
                return Operate(store, writer, request).answer(found)
            return Changes(store, reader, writer, request, query).answer(found)

    def _document(self, request: Request) -> Answer:
        if request.method != "GET":
            raise not_allowed(request.method)
        return json_answer(
            {
                "@odata.context": f"{request.base}/$metadata",
                "value": [
                    {"name": name, "kind": "EntitySet", "url": name}
                    for name in sorted(self._store.schema.sets)
                ],
            }
        )

    def _csdl(self, request: Request) -> Answer:
        if request.method != "GET":
            raise not_allowed(request.method)
        if self._metadata is None:
            self._metadata = metadata_document(self._store.schema)
        return Answer(
            status=200,
            headers=(("Content-Type", "application/xml"), ("OData-Version", "4.0")),
            body=self._metadata,
        )

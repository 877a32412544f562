"""GET /audit/records and GET /audit/records/{id}, for auditors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import msgspec
from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.audit import query as asked
from app.audit.record import Record  # noqa: TC001
from app.audit.store import StoreFailed
from app.errors import Unavailable, Unreadable
from app.web.openapi.answers import EXAMPLE_REQUEST_ID, problem_answers
from app.web.roles import Auditor  # noqa: TC001
from app.web.views import Decision, IdentityKind, Operation, View

if TYPE_CHECKING:
    from collections.abc import Callable

Text = Annotated[str | None, Field(max_length=200)]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the years 1 to 9999 in UTC") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class RecordFilter(BaseModel):
    """All filters that are given must hold. A filter that is not known is an error: one that
    was misspelt and passed over would show more than was asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    caller: Annotated[Text, Field(examples=["invoice-loader"])] = None
    environment: Annotated[Text, Field(examples=["contoso"])] = None
    application: Annotated[Text, Field(examples=["erp-invoices"])] = None
    action: Literal["token", "proxy", "admin"] | None = None
    table: Annotated[Text, Field(examples=["invoices"])] = None
    operation: Annotated[Operation | None, Field(description="of the table, if both are given")] = (
        None
    )
    decision: Decision | None = None
    status: Annotated[int | None, Field(ge=100, le=599)] = None
    since: Annotated[
        Moment | None, Field(alias="from", description="included; with a time zone")
    ] = None
    until: Annotated[
        Moment | None, Field(alias="to", description="not included; with a time zone")
    ] = None
    request_id: Annotated[Text, Field(description="from an answer's Broker-Request-Id")] = None
    cursor: Annotated[Text, Field(description="`next_cursor` of the page before")] = None
    limit: Annotated[int, Field(ge=1, le=asked.LIMIT_MAX)] = 100


class AccessRecord(View):
    table: Annotated[str, Field(examples=["invoices"])]
    operation: Annotated[str, Field(examples=["create"])]
    columns: Annotated[
        tuple[str, ...] | None,
        Field(examples=[["name", "customerid"]], description="null: all of them"),
    ]


class IdentityRecord(View):
    kind: IdentityKind
    subject: Annotated[str, Field(examples=["k7f3"])]


class PartRecord(View):
    """One request of a batch."""

    method: Annotated[str, Field(examples=["POST"])]
    target: Annotated[str, Field(examples=["invoices"])]
    accesses: tuple[AccessRecord, ...] = ()
    decision: Decision
    status: Annotated[int | None, Field(examples=[204])] = None


class AuditRecord(View):
    """One request. A field that has nothing to tell is left out."""

    id: Annotated[str, Field(examples=[EXAMPLE_REQUEST_ID])]
    phase: Annotated[
        Literal["intent", "outcome"],
        Field(description="`intent` where the outcome is not there (yet)"),
    ]
    time: Annotated[
        datetime, Field(examples=["2026-11-24T06:30:00.123456Z"], description="of arrival")
    ]
    action: Literal["token", "proxy", "admin"]
    decision: Decision
    outcome: Annotated[
        Literal[
            "completed",
            "caller_gone",
            "upstream_failed",
            "unrecorded",
            "stopped",
            "failed",
            "open",
            "interrupted",
        ]
        | None,
        Field(examples=["completed"]),
    ] = None
    reason: Annotated[str | None, Field(examples=["not-granted"])] = None
    caller: Annotated[str | None, Field(examples=["invoice-loader"])] = None
    identity: IdentityRecord | None = None
    client_address: Annotated[str | None, Field(examples=["10.20.3.4"])] = None
    environment: Annotated[str | None, Field(examples=["contoso"])] = None
    application: Annotated[str | None, Field(examples=["erp-invoices"])] = None
    method: Annotated[str | None, Field(examples=["POST"])] = None
    target: Annotated[
        str | None,
        Field(
            examples=["/api/data/v9.2/invoices"],
            description="names of options and ids of rows are kept, values are not",
        ),
    ] = None
    accesses: tuple[AccessRecord, ...] = ()
    status: Annotated[int | None, Field(examples=[204])] = None
    upstream_status: Annotated[int | None, Field(examples=[204])] = None
    upstream_request_id: str | None = None
    request_id: Annotated[str | None, Field(examples=[EXAMPLE_REQUEST_ID])] = None
    trace_id: Annotated[str | None, Field(examples=["4bf92f3577b34da6a3ce929d0e0e4736"])] = None
    duration_ms: Annotated[float | None, Field(examples=[41.7])] = None
    upstream_ms: Annotated[float | None, Field(examples=[40.9])] = None
    bytes_in: Annotated[int | None, Field(examples=[182])] = None
    bytes_out: Annotated[int | None, Field(examples=[0])] = None
    token_fingerprint: Annotated[str | None, Field(examples=["5d41402abc4b2a76"])] = None
    parts: tuple[PartRecord, ...] = ()


class RecordPage(View):
    """Newest first."""

    records: tuple[AuditRecord, ...]
    next_cursor: Annotated[
        str | None, Field(description="for the next page; null on the last one")
    ] = None


class Records(Protocol):
    """The record, to be read: `app.audit`'s readers have this form."""

    async def query(self, query: asked.Query, *, now: datetime) -> asked.Page:
        """Raises `Unreadable` for a cursor of another walk, `StoreFailed` without a store."""
        ...

    async def get(self, record_id: str, *, now: datetime) -> Record | None: ...


class AuditAddresses:
    def __init__(
        self, records: Records, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._records = records
        self._now = now

    def router(self) -> APIRouter:
        router = APIRouter(tags=["audit"])
        router.add_api_route(
            "/audit/records",
            self.page,
            methods=["GET"],
            response_model=RecordPage,
            summary="Who touched what, when, and as which application",
            description="Needs the role `auditor`.",
            responses=problem_answers(
                "bad-query", "cursor-invalid", "not-granted", "audit-unreadable"
            ),
        )
        router.add_api_route(
            "/audit/records/{record_id}",
            self.record,
            methods=["GET"],
            response_model=AuditRecord,
            summary="One record",
            description="Needs the role `auditor`.",
            responses=problem_answers("not-granted", "no-such-record", "audit-unreadable"),
        )
        return router

    async def page(self, _auditor: Auditor, wanted: Annotated[RecordFilter, Query()]) -> Response:
        query = asked.Query(**wanted.model_dump())
        try:
            page = await self._records.query(query, now=self._now())
        except StoreFailed as failed:
            raise _unreadable() from failed
        return _json({"records": page.records, "next_cursor": page.cursor})

    async def record(
        self,
        record_id: Annotated[str, Path(examples=[EXAMPLE_REQUEST_ID], max_length=64)],
        _auditor: Auditor,
    ) -> Response:
        try:
            found = await self._records.get(record_id, now=self._now())
        except StoreFailed as failed:
            raise _unreadable() from failed
        if found is None:
            raise Unreadable("no-such-record", "no audit record has this id")
        return _json(found)


def _unreadable() -> Unavailable:
    return Unavailable(
        "audit-unreadable",
        "the audit store cannot be read now; what is recorded is not lost",
        retry_after_s=5,
    )


def _json(value: Any) -> Response:
    # Records were written by the broker and are read back as they stand: msgspec encodes a
    # thousand of them in a millisecond, where a second validation would take a second.
    return Response(msgspec.json.encode(value), media_type="application/json")

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from app.audit import query as asked
from app.audit.record import RECORD_FIELDS, Identity, Part, Record, TableAccess
from app.audit.store import StoreFailed
from app.config.model import Configuration
from app.errors import Unavailable, Unreadable
from app.identity.caller import Caller, IdentityRef
from app.web.audit import AuditRecord
from app.web.management import management_app
from app.web.problems import PROBLEMS
from app.web.recorded import Recorded
from app.web.views import (
    ApplicationView,
    CredentialView,
    ExplainRequest,
    Explanation,
    IdentityUseView,
)

if TYPE_CHECKING:
    from app.web.asgi import App, RequestHead

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
CONFIGURATION = Configuration.model_validate(
    {
        "public_url": "https://broker.internal.example",
        "callers": {
            "loader": {
                "description": "nightly ERP load",
                "grants": [
                    {
                        "environment": "contoso",
                        "application": "erp",
                        "issue_token": True,
                        "tables": {
                            "accounts": {
                                "operations": ["read", "update"],
                                "columns": ["accountid", "name"],
                                "writable_columns": ["name"],
                                "row_filter": "statecode eq 0",
                            },
                            "teams": {"operations": []},
                            "*": {"operations": ["read"]},
                        },
                        "functions": ["WhoAmI", {"name": "IsValid", "table": "contacts"}],
                    }
                ],
            },
            "auditor": {"roles": ["auditor"]},
            "operator": {"roles": ["operator"], "disabled": True},
            "nobody": {},
        },
    }
)
RECORD = Record(
    phase="outcome",
    id="0192f0c1-7b8e-7c7e-9d53-0b8f3a0f2c11",
    time="2026-11-24T12:00:00.000000Z",
    action="proxy",
    decision="allowed",
    outcome="completed",
    caller="loader",
    identity=Identity(kind="api_key", subject="k1"),
    environment="contoso",
    method="POST",
    target="/api/data/v9.2/$batch",
    accesses=(TableAccess(table="invoices", operation="create", columns=None),),
    status=200,
    duration_ms=41.5,
    parts=(Part(method="POST", target="invoices", decision="allowed", status=204),),
)


@dataclass
class Broker:
    """Stands for everything behind the addresses."""

    caller: str = "loader"
    queries: list[asked.Query] = field(default_factory=list)
    explained: list[tuple[str, ExplainRequest]] = field(default_factory=list)
    concluded: list[tuple[int | None, str | None]] = field(default_factory=list)
    broken: bool = False

    async def admit(self, _head: RequestHead) -> Admitted:
        config = CONFIGURATION.callers[self.caller]
        return Admitted(Caller(self.caller, IdentityRef("api_key", "k1"), config), self)

    def configuration(self) -> Configuration:
        return CONFIGURATION

    def identities(self, caller: str) -> tuple[IdentityUseView, ...]:
        if caller != "loader":
            return ()
        return (
            IdentityUseView(kind="jwt", subject="k1"),
            IdentityUseView(kind="api_key", subject="k1", expires=NOON, last_used=NOON),
        )

    async def query(self, query: asked.Query, *, now: datetime) -> asked.Page:
        assert now.tzinfo is UTC
        self.queries.append(query)
        if self.broken:
            raise StoreFailed("/var/lib/broker/audit.db is gone")
        if query.cursor == "of another walk":
            raise Unreadable("cursor-invalid", "cursor: begin again without one")
        return asked.Page(records=(RECORD,), cursor="next", unindexed=0)

    async def get(self, record_id: str, *, now: datetime) -> Record | None:
        assert now.tzinfo is UTC
        if self.broken:
            raise StoreFailed("/var/lib/broker/audit.db is gone")
        return RECORD if record_id == RECORD.id else None

    def applications(self) -> tuple[ApplicationView, ...]:
        credential = CredentialView(kind="certificate", id="AB12", expires=NOON, in_use=True)
        return (
            ApplicationView(name="erp", tenant_id="t", client_id="c", credentials=(credential,)),
        )

    def forget_tokens(self, application: str) -> int | None:
        return 2 if application == "erp" else None

    async def explain(self, caller: Caller, request: ExplainRequest) -> Explanation:
        self.explained.append((caller.name, request))
        if self.broken:
            raise Unavailable("schema-unavailable", "not yet", retry_after_s=2)
        return Explanation(decision="refused", code="not-granted", detail="no grant on invoices")


@dataclass
class Admitted:
    caller: Caller
    broker: Broker

    async def conclude(self, *, status: int | None, reason: str | None, bytes_out: int) -> None:
        assert bytes_out > 0
        self.broker.concluded.append((status, reason))


def app(broker: Broker) -> App:
    inner = management_app(
        directory=broker,
        records=broker,
        applications=broker,
        explainer=broker,
        openapi=lambda: b'{"openapi":"3.1.0"}',
    )
    return Recorded(inner, admission=broker)


async def test_a_caller_is_told_who_it_is_and_what_it_may_do(call: Any) -> None:
    broker = Broker()
    seen = await call(app(broker), b"/callers/me")
    assert seen.status == 200
    assert seen.json() == {
        "caller": "loader",
        "description": "nightly ERP load",
        "identity": {"kind": "api_key", "subject": "k1", "expires": "2026-11-24T12:00:00Z"},
        "roles": [],
        "default_environment": "contoso",
        "grants": [
            {
                "environment": "contoso",
                "applications": ["erp"],
                "base_url": "https://broker.internal.example/environments/contoso",
                "enforced": True,
                "may_hold_token": True,
                "summary": [
                    (
                        "accounts: read and update; columns accountid, name; writes only name; "
                        "only rows where statecode eq 0"
                    ),
                    "teams: nothing",
                    "every other table: read",
                    "functions: WhoAmI, IsValid on contacts",
                    "may hold the raw Dataverse token, which no rule above can follow",
                ],
                "tables": [
                    {
                        "table": "accounts",
                        "operations": ["read", "update"],
                        "columns": ["accountid", "name"],
                        "writable_columns": ["name"],
                        "row_filter": "statecode eq 0",
                    },
                    {
                        "table": "teams",
                        "operations": [],
                        "columns": None,
                        "writable_columns": None,
                        "row_filter": None,
                    },
                    {
                        "table": "*",
                        "operations": ["read"],
                        "columns": None,
                        "writable_columns": None,
                        "row_filter": None,
                    },
                ],
                "functions": ["WhoAmI", "IsValid on contacts"],
                "actions": [],
                "metadata": "granted",
                "limits": {
                    "page_size": None,
                    "expand_depth": 3,
                    "batch_parts": 1000,
                    "body_bytes": 16777216,
                    "requests_per_minute": None,
                    "concurrency": None,
                    "weight": 1,
                    "priority": "normal",
                },
            }
        ],
    }
    assert broker.concluded == [(200, None)]


async def test_a_caller_without_grants_learns_just_that(call: Any) -> None:
    seen = await call(app(Broker(caller="nobody")), b"/callers/me")
    assert (seen.json()["grants"], seen.json()["default_environment"]) == ([], None)


@pytest.mark.parametrize(
    ("method", "target", "role"),
    [
        ("GET", b"/audit/records", "auditor"),
        ("GET", b"/audit/records/x", "auditor"),
        ("GET", b"/callers", "operator"),
        ("GET", b"/applications", "operator"),
        ("DELETE", b"/applications/erp/tokens", "operator"),
    ],
)
async def test_a_role_opens_its_addresses_and_no_others(
    call: Any, method: str, target: bytes, role: str
) -> None:
    for caller in ("loader", "auditor", "operator"):
        broker = Broker(caller=caller)
        seen = await call(app(broker), target, method=method)
        refused = seen.status == 403
        assert refused is (caller != role)
        if refused:
            assert seen.json()["detail"] == f"this address needs the role {role}"
            assert broker.concluded == [(403, "not-granted")]


async def test_an_operator_sees_every_caller_and_its_identities(call: Any) -> None:
    seen = await call(app(Broker(caller="operator")), b"/callers")
    callers = {entry.pop("name"): entry for entry in seen.json()["callers"]}
    assert list(callers) == ["auditor", "loader", "nobody", "operator"]
    assert callers["operator"] == {
        "description": "",
        "disabled": True,
        "roles": ["operator"],
        "environments": [],
        "identities": [],
    }
    assert callers["loader"]["environments"] == ["contoso"]
    assert callers["loader"]["identities"][1] == {
        "kind": "api_key",
        "subject": "k1",
        "expires": "2026-11-24T12:00:00Z",
        "last_used": "2026-11-24T12:00:00Z",
    }


async def test_an_operator_sees_credentials_and_forgets_tokens(call: Any) -> None:
    operator = app(Broker(caller="operator"))
    (listed,) = (await call(operator, b"/applications")).json()["applications"]
    assert listed["credentials"] == [
        {
            "kind": "certificate",
            "id": "AB12",
            "expires": "2026-11-24T12:00:00Z",
            "in_use": True,
            "last_success": None,
            "last_error": None,
            "last_error_at": None,
        }
    ]
    forgotten = await call(operator, b"/applications/erp/tokens", method="DELETE")
    assert forgotten.json() == {"application": "erp", "tokens_forgotten": 2}
    unknown = await call(operator, b"/applications/nope/tokens", method="DELETE")
    assert (unknown.status, unknown.json()["type"]) == (404, "/problems/no-such-application")


async def test_an_auditor_reads_a_page_of_records(call: Any) -> None:
    broker = Broker(caller="auditor")
    target = (
        b"/audit/records?caller=loader&table=invoices&operation=create&status=200"
        b"&from=2026-11-24T00:00:00Z&to=2026-11-25T01:00:00%2B01:00&limit=5&cursor=abc"
    )
    seen = await call(app(broker), target)
    (query,) = broker.queries
    assert query == asked.Query(
        caller="loader",
        table="invoices",
        operation="create",
        status=200,
        since=datetime(2026, 11, 24, tzinfo=UTC),
        until=datetime(2026, 11, 25, tzinfo=UTC),
        limit=5,
        cursor="abc",
    )
    assert seen.json()["next_cursor"] == "next"
    (record,) = seen.json()["records"]
    assert record == json.loads(msgspec.json.encode(RECORD))
    AuditRecord.model_validate(record)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        pytest.param(b"tabel=invoices", "query.tabel", id="a misspelt filter"),
        pytest.param(b"limit=1001", "query.limit", id="too many"),
        pytest.param(b"from=2026-11-24T00:00:00", "query.from", id="no time zone"),
        pytest.param(b"since=2026-11-24T00:00:00Z", "query.since", id="the name inside"),
        pytest.param(b"from=0001-01-01T00:00:00%2B14:00", "query.from", id="before all years"),
        pytest.param(b"to=9999-12-31T23:59:59-14:00", "query.to", id="after all years"),
        pytest.param(b"operation=steal", "query.operation", id="no operation"),
    ],
)
async def test_a_filter_that_cannot_be_read_is_refused(call: Any, query: bytes, told: str) -> None:
    broker = Broker(caller="auditor")
    seen = await call(app(broker), b"/audit/records?" + query)
    assert (seen.status, broker.queries) == (400, [])
    assert seen.json()["type"] == "/problems/bad-query"
    assert told in seen.json()["detail"]
    assert "steal" not in seen.json()["detail"]
    assert broker.concluded == [(400, "bad-query")]


async def test_errors_of_the_store_are_problems(call: Any) -> None:
    foreign = await call(app(Broker(caller="auditor")), b"/audit/records?cursor=of+another+walk")
    assert (foreign.status, foreign.json()["type"]) == (400, "/problems/cursor-invalid")
    for target in (b"/audit/records", b"/audit/records/0192"):
        broken = await call(app(Broker(caller="auditor", broken=True)), target)
        assert (broken.status, broken.headers["retry-after"]) == (503, "5")
        assert broken.json()["type"] == "/problems/audit-unreadable"
        assert b"audit.db" not in broken.body


async def test_one_record_is_found_by_its_id_or_not(call: Any) -> None:
    auditor = app(Broker(caller="auditor"))
    found = await call(auditor, b"/audit/records/" + RECORD.id.encode())
    assert found.json() == json.loads(msgspec.json.encode(RECORD))
    missing = await call(auditor, b"/audit/records/0192")
    assert (missing.status, missing.json()["type"]) == (404, "/problems/no-such-record")


def test_the_described_record_has_every_field_of_the_record() -> None:
    assert set(AuditRecord.model_fields) == {*RECORD_FIELDS, "phase"}


async def test_a_request_is_explained_for_the_caller_that_asks(call: Any) -> None:
    broker = Broker()
    body = b'{"method": "POST", "url": "/api/data/v9.2/invoices", "body": {"name": "x"}}'
    headers = [(b"content-type", b"application/json")]
    seen = await call(app(broker), b"/policy/explain", method="POST", headers=headers, body=[body])
    assert seen.json() == {
        "decision": "refused",
        "code": "not-granted",
        "detail": "no grant on invoices",
        "environment": None,
        "application": None,
        "grant": None,
        "accesses": [],
        "missing": [],
        "parts": [],
        "warnings": [],
        "would_send": None,
    }
    (explained,) = broker.explained
    assert explained == (
        "loader",
        ExplainRequest(method="POST", url="/api/data/v9.2/invoices", body={"name": "x"}),
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"method": "GET"}', id="no url"),
        pytest.param(b'{"method": "GET", "url": "/", "hunter2": 1}', id="unknown field"),
        pytest.param(b"hunter2", id="no json"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_what_cannot_be_explained_is_named_without_quoting_it(call: Any, body: bytes) -> None:
    broker = Broker()
    headers = [(b"content-type", b"application/json")]
    seen = await call(app(broker), b"/policy/explain", method="POST", headers=headers, body=[body])
    assert (seen.status, seen.json()["type"]) == (400, "/problems/bad-body")
    assert broker.explained == []


async def test_a_schema_that_is_not_there_yet_is_told(call: Any) -> None:
    body = b'{"method": "GET", "url": "/api/data/v9.2/invoices"}'
    headers = [(b"content-type", b"application/json")]
    seen = await call(
        app(Broker(broken=True)), b"/policy/explain", method="POST", headers=headers, body=[body]
    )
    assert (seen.status, seen.headers["retry-after"]) == (503, "2")


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", b"/", 404, "no-such-address"),
        ("GET", b"/docs", 404, "no-such-address"),
        ("GET", b"/redoc", 404, "no-such-address"),
        ("GET", b"/callers/me/", 404, "no-such-address"),
        ("GET", b"/environments/contoso/api/data", 404, "no-such-address"),
        ("GET", b"/problems/never-heard-of", 404, "no-such-address"),
        ("HEAD", b"/callers/me", 405, "method-not-allowed"),
        ("OPTIONS", b"/callers/me", 405, "method-not-allowed"),
        ("POST", b"/audit/records", 405, "method-not-allowed"),
    ],
)
async def test_an_address_that_is_not_there_is_recorded_too(
    call: Any, *, method: str, target: bytes, status: int, code: str
) -> None:
    broker = Broker()
    seen = await call(app(broker), target, method=method)
    assert (seen.status, seen.json()["type"]) == (status, f"/problems/{code}")
    assert broker.concluded == [(status, code)]
    if status == 405:
        assert seen.headers["allow"] == "GET"


async def test_the_document_and_the_meaning_of_problems_are_served_to_callers(call: Any) -> None:
    broker = app(Broker())
    assert (await call(broker, b"/openapi.json")).json() == {"openapi": "3.1.0"}
    told = await call(broker, b"/problems/not-granted")
    known = PROBLEMS["not-granted"]
    assert told.json() == {"code": "not-granted", "status": 403, "title": known.title}

"""The shapes that management addresses answer in. What they show holds no secret and no value."""

from __future__ import annotations

from datetime import date, datetime  # noqa: TC003 - pydantic needs them at run time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Operation = Literal["read", "create", "update", "delete", "append_to", "assign"]
Decision = Literal["allowed", "refused", "error"]
IdentityKind = Literal["api_key", "jwt", "certificate", "broker_token"]


class View(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# ------------------------------------------------------------------- problems


class ProblemDocument(BaseModel):
    """RFC 9457. Some errors bring further members."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/not-granted",
                    "title": "No grant covers this",
                    "status": 403,
                    "detail": "columns not granted on accounts: creditlimit",
                    "request_id": "0192f0c1-7b8e-7c7e-9d53-0b8f3a0f2c11",
                    "accesses": [
                        {"table": "accounts", "operation": "read", "columns": ["creditlimit"]}
                    ],
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str
    request_id: str


class ProblemKind(View):
    """What a `type` means, and what to do about it."""

    code: Annotated[str, Field(examples=["not-granted"])]
    status: Annotated[int, Field(examples=[403])]
    title: Annotated[str, Field(examples=["No grant covers this"])]


# -------------------------------------------------------------------- callers


class IdentityView(View):
    """One way in which a caller may prove who it is."""

    kind: IdentityKind
    subject: Annotated[
        str, Field(examples=["k7f3"], description="a key's id, a token's subject, a SAN")
    ]
    expires: Annotated[datetime | None, Field(examples=["2027-06-30T00:00:00Z"])] = None


class TableView(View):
    """What is granted on one table. No columns listed: all of them."""

    table: Annotated[str, Field(examples=["accounts"])]
    operations: Annotated[tuple[Operation, ...], Field(examples=[["read", "update"]])]
    columns: Annotated[
        tuple[str, ...] | None, Field(examples=[["accountid", "name", "telephone1"]])
    ] = None
    writable_columns: Annotated[tuple[str, ...] | None, Field(examples=[["telephone1"]])] = None
    row_filter: Annotated[str | None, Field(examples=["statecode eq 0"])] = None


class GrantView(View):
    """What the caller may do in one environment."""

    environment: Annotated[str, Field(examples=["contoso"])]
    applications: Annotated[tuple[str, ...], Field(examples=[["erp-invoices"]])]
    base_url: Annotated[
        str, Field(examples=["https://broker.internal.example/environments/contoso"])
    ]
    """What a client library takes as the environment's URL."""
    enforced: bool = True
    may_hold_token: bool = False
    summary: Annotated[
        tuple[str, ...],
        Field(examples=[["accounts: read and update; columns accountid, name, telephone1"]]),
    ]
    """The same in sentences."""
    tables: tuple[TableView, ...]
    functions: Annotated[tuple[str, ...], Field(examples=[["WhoAmI"]])] = ()
    actions: tuple[str, ...] = ()
    metadata: Literal["none", "granted", "all"] = "granted"
    limits: Annotated[
        dict[str, Any], Field(examples=[{"page_size": 500, "requests_per_minute": 600}])
    ]


class Me(View):
    """Whom the broker takes the caller for, by which identity, and what it may do."""

    caller: Annotated[str, Field(examples=["invoice-loader"])]
    description: Annotated[str, Field(examples=["nightly ERP load"])] = ""
    identity: IdentityView
    roles: Annotated[tuple[str, ...], Field(examples=[[]])] = ()
    default_environment: Annotated[str | None, Field(examples=["contoso"])] = None
    grants: tuple[GrantView, ...]


class IdentityUseView(IdentityView):
    last_used: Annotated[datetime | None, Field(examples=["2026-11-24T06:30:00Z"])] = None
    """Since the process started; null where not yet."""


class CallerView(View):
    name: Annotated[str, Field(examples=["invoice-loader"])]
    description: Annotated[str, Field(examples=["nightly ERP load"])] = ""
    disabled: bool = False
    roles: Annotated[tuple[str, ...], Field(examples=[["auditor"]])] = ()
    environments: Annotated[tuple[str, ...], Field(examples=[["contoso"]])] = ()
    identities: tuple[IdentityUseView, ...]


class CallerList(View):
    callers: tuple[CallerView, ...]


# --------------------------------------------------------------- applications


class CredentialView(View):
    """The state of one credential; never the secret."""

    kind: Annotated[str, Field(examples=["certificate"])]
    id: Annotated[
        str, Field(examples=["9F86D081884C7D659A2F"], description="a thumbprint, or its place")
    ]
    expires: Annotated[date | datetime | None, Field(examples=["2027-03-31T00:00:00Z"])] = None
    in_use: bool = False
    """Whether it is the one that gave the last token."""
    last_success: Annotated[datetime | None, Field(examples=["2026-11-24T06:30:00Z"])] = None
    last_error: Annotated[
        str | None, Field(examples=["the secret is wrong (AADSTS7000215, invalid_client)"])
    ] = None
    last_error_at: datetime | None = None


class ApplicationView(View):
    name: Annotated[str, Field(examples=["erp-invoices"])]
    tenant_id: Annotated[str, Field(examples=["8b1f7a52-0c52-4d1c-9f4e-2b0b3c0f6f11"])]
    client_id: Annotated[str, Field(examples=["5c2e9d10-66f1-4f7c-8f43-7f0f6f0b8d21"])]
    credentials: tuple[CredentialView, ...]


class ApplicationList(View):
    applications: tuple[ApplicationView, ...]


class Forgotten(View):
    application: Annotated[str, Field(examples=["erp-invoices"])]
    tokens_forgotten: Annotated[int, Field(examples=[2])]


# --------------------------------------------------------------------- policy


class AccessView(View):
    table: Annotated[str, Field(examples=["accounts"])]
    operation: Annotated[Operation, Field(examples=["read"])]
    columns: Annotated[tuple[str, ...] | Literal["ALL"], Field(examples=[["name"]])]


class ExplainRequest(View):
    """A request as the caller would send it."""

    method: Annotated[str, Field(examples=["GET"], pattern=r"^[A-Z]{1,20}$")]
    url: Annotated[
        str,
        Field(
            examples=["/environments/contoso/api/data/v9.2/accounts?$select=name"],
            min_length=1,
            max_length=32 * 1024,
            description="the broker's own address of it, or its path and query",
        ),
    ]
    headers: Annotated[dict[str, str], Field(examples=[{"Prefer": "odata.maxpagesize=500"}])] = (
        Field(default_factory=dict)
    )
    body: Annotated[
        Any, Field(description="a string is taken as it is, anything else is sent as JSON")
    ] = None


class WouldSend(View):
    """What Dataverse would get. The broker's own Authorization is not shown."""

    method: str
    target: Annotated[str, Field(examples=["/api/data/v9.2/accounts?$select=name"])]
    headers: dict[str, str]
    body: Any = None


class PartExplanation(View):
    """One request of a batch."""

    number: Annotated[int, Field(examples=[1], description="counted from 1, in order")]
    method: Annotated[str, Field(examples=["GET"])]
    target: Annotated[str, Field(examples=["accounts?$select=…"], description="without values")]
    decision: Annotated[Literal["allowed", "refused"], Field(examples=["allowed"])]
    accesses: tuple[AccessView, ...] = ()
    missing: tuple[str, ...] = ()
    """In words; empty where nothing is."""


class Explanation(View):
    decision: Annotated[Literal["allowed", "refused", "unreadable"], Field(examples=["refused"])]
    code: Annotated[str | None, Field(examples=["not-granted"])] = None
    detail: Annotated[
        str | None, Field(examples=["columns not granted on accounts: creditlimit"])
    ] = None
    environment: Annotated[str | None, Field(examples=["contoso"])] = None
    application: Annotated[str | None, Field(examples=["erp-invoices"])] = None
    grant: Annotated[
        str | None,
        Field(
            examples=["callers.invoice-loader.grants[0]"],
            description="the one that was asked: by its place in the configuration",
        ),
    ] = None
    accesses: tuple[AccessView, ...] = ()
    missing: tuple[AccessView, ...] = ()
    """What a grant would have to name."""
    parts: tuple[PartExplanation, ...] = ()
    """Of a batch, each of its requests."""
    warnings: tuple[str, ...] = ()
    would_send: WouldSend | None = None

"""What a grant may say: tables, operations, functions, actions, limits (policy.md)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.config.words import Flag, Guid, Identifier, Name, Strict, TableName, Text, Whole, one_of

PAGE_SIZE_MAX = 5000
"""Rows a page; Dataverse's own maximum (dataverse-reference 3.4)."""


class Operation(StrEnum):
    """Dataverse's privileges, as policies name them."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    APPEND_TO = "append_to"
    ASSIGN = "assign"


class TableRule(Strict):
    """What a grant allows on one table. No columns named: all of them."""

    operations: tuple[Operation, ...]
    columns: tuple[Identifier, ...] | None = None
    writable_columns: tuple[Identifier, ...] | None = None
    row_filter: Text | None = None


class BoundName(Strict):
    """A function or action bound to rows of one table."""

    name: Identifier
    table: Identifier


OperationName = Annotated[
    str | BoundName,
    one_of(BoundName, text=Identifier, otherwise="must be a name, or {name: NAME, table: TABLE}"),
]
"""An unqualified name: without `Microsoft.Dynamics.CRM.` in front."""


class ImpersonateCallers(Strict):
    caller_id: Annotated[tuple[Guid, ...], Field(min_length=1)]


class ImpersonateAs(Strict):
    as_: Annotated[Guid, Field(alias="as")]


class Limits(Strict):
    page_size: Annotated[Whole, Field(ge=1, le=PAGE_SIZE_MAX)] | None = None
    expand_depth: Annotated[Whole, Field(ge=0, le=10)] = 3
    batch_parts: Annotated[Whole, Field(ge=1, le=1000)] = 1000
    body_bytes: Annotated[Whole, Field(ge=1, le=128 * 1024 * 1024)] = 16 * 1024 * 1024
    requests_per_minute: Annotated[Whole, Field(ge=1)] | None = None
    concurrency: Annotated[Whole, Field(ge=1)] | None = None
    weight: Annotated[Whole, Field(ge=1, le=1000)] = 1
    priority: Literal["high", "normal", "low"] = "normal"


class Grant(Strict):
    """What a caller may do in one environment, as one application (or one of a pool)."""

    environment: Name
    application: Annotated[
        Name | tuple[Name, ...],
        one_of(
            text=Name,
            several=Annotated[tuple[Name, ...], Field(min_length=1)],
            otherwise="must be an application's name, or a list of them",
        ),
    ]
    enforce: Flag = True
    issue_token: Flag = False
    tables: dict[TableName, TableRule] = Field(default_factory=dict)
    functions: tuple[OperationName, ...] = ()
    actions: tuple[OperationName, ...] = ()
    metadata: Literal["none", "granted", "all"] = "granted"
    impersonate: Annotated[
        Literal["none"] | ImpersonateCallers | ImpersonateAs,
        one_of(
            ImpersonateCallers,
            ImpersonateAs,
            text=Literal["none"],
            otherwise="must be none, {caller_id: [GUID, ...]} or {as: GUID}",
        ),
    ] = "none"
    headers: tuple[Annotated[str, StringConstraints(pattern=r"^(?i:MSCRM)\.[A-Za-z]+$")], ...] = ()
    limits: Limits = Limits()

    @property
    def applications(self) -> tuple[str, ...]:
        return (self.application,) if isinstance(self.application, str) else self.application

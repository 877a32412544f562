"""What a record tells of the rights that its request needed. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from app.audit.query import accesses_of
from app.config.model import Operation
from app.odata.access import ALL, Access
from app.odata.calls import BULK, ROW_COUNT
from app.odata.demands import Call
from app.policy.suggest import Metadata, Use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.audit.record import Record, TableAccess
    from app.schema.model import Schema

_NAMESPACE: Final = "Microsoft.Dynamics.CRM."
_BY_TABLES: Final = frozenset({*BULK, ROW_COUNT})
"""Calls that are judged by the tables that they touch, and not by name."""

_DEFINITIONS: Final = re.compile(r"EntityDefinitions\b")
_ALL_METADATA: Final = re.compile(
    r"(\$metadata|RelationshipDefinitions|GlobalOptionSetDefinitions|ManagedPropertyDefinitions"
    r"|RetrieveMetadataChanges)\b"
)


def use_of(record: Record, schema: Schema | None) -> Use:
    """Without a schema, calls are told from tables by what the record says was touched."""
    requests = [(record.method or "", record.target or "")]
    requests += [(part.method, part.target) for part in record.parts]
    touched = {access.table for access in accesses_of(record)}
    calls = [_call(method, target, touched, schema) for method, target in requests]
    return Use(
        accesses=tuple(_access(access) for access in accesses_of(record)),
        calls=tuple(call for call in calls if call is not None),
        metadata=max((_metadata(t) for _, t in requests), key=("none", "granted", "all").index),
        holds_token=record.action == "token"
        and record.decision == "allowed"
        and record.application is not None,
    )


def _access(access: TableAccess) -> Access:
    columns = ALL if access.columns is None else frozenset(access.columns)
    return Access(access.table, Operation(access.operation), columns)


def _metadata(target: str) -> Metadata:
    if _ALL_METADATA.search(target):
        return "all"
    return "granted" if _DEFINITIONS.match(target) else "none"


def _call(method: str, target: str, touched: set[str], schema: Schema | None) -> Call | None:
    """The function or action at a target's end."""
    segments = list(_names(target.partition("?")[0]))
    if not segments or segments[-1].startswith("$") or _metadata(target) != "none":
        return None
    name = segments[-1].removeprefix(_NAMESPACE)
    if name in _BY_TABLES:
        return None
    table = segments[0] if len(segments) > 1 else None
    if schema is not None:
        routine = schema.imports.get(name) if table is None else None
        if table is not None and name in schema.bound and segments[-1].startswith(_NAMESPACE):
            return Call(name, any(r.is_action for r in schema.bound[name]), table)
        return None if routine is None else Call(name, routine.is_action)
    if table is None:
        return None if name in touched else Call(name, is_action=method == "POST")
    # A cast ends in such a name too, but nobody posts to one.
    bound = method == "POST" and segments[-1].startswith(_NAMESPACE)
    return Call(name, is_action=True, table=table) if bound else None


def _names(path: str) -> Iterator[str]:
    """Segments without what stands in their parentheses."""
    for segment in re.sub(r"\([^()]*\)", "", path).split("/"):
        if segment:
            yield segment

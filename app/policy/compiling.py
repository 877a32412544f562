"""Compile a configuration's grants against a schema, and say what in them cannot hold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from app.config.model import BoundName, ImpersonateAs, ImpersonateCallers, Operation
from app.odata.access import ALL, Columns
from app.policy.grants import Grant, TableRights
from app.policy.row_filters import RowFilterInvalid, compile_row_filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.config import model
    from app.policy.grants import RowFilter
    from app.schema.model import Schema, Table

PAGE_SIZE_DEFAULT = 5000


@dataclass(frozen=True, slots=True)
class GrantProblem:
    """Something in a grant that the schema contradicts. `place` is the path of keys to it.

    `fatal` ones make a pinned schema's configuration a load error; on a live schema they close
    the table until the schema knows better.
    """

    place: tuple[str | int, ...]
    message: str
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class Compiled:
    grant: Grant
    problems: tuple[GrantProblem, ...]


def compile_grant(
    grant: model.Grant, schema: Schema, *, caller: str, index: int, version: str
) -> Compiled:
    """`version` is the configuration's; `index` the grant's place among the caller's."""
    place: tuple[str | int, ...] = ("callers", caller, "grants", index)
    problems: list[GrantProblem] = []
    tables: dict[str, TableRights] = {}
    star: TableRights | None = None
    for name, rule in grant.tables.items():
        at = (*place, "tables", name)
        if name == "*":
            star = _star(rule, at, problems)
            continue
        table = schema.sets.get(name)
        if table is None:
            problems.append(GrantProblem(at, _unknown("table", name, schema.sets)))
            tables[name] = TableRights(frozenset())
            continue
        tables[name] = _rights(rule, table, schema, at, problems)
    impersonate = grant.impersonate
    digest = hashlib.sha256(f"{version}:{caller}:{index}:{schema.version}".encode()).hexdigest()
    return Compiled(
        Grant(
            caller=caller,
            environment=grant.environment,
            applications=grant.applications,
            enforce=grant.enforce,
            issue_token=grant.issue_token,
            tables=tables,
            star=star,
            functions=_routines(grant.functions),
            actions=_routines(grant.actions),
            metadata=grant.metadata,
            impersonate_as=(
                str(impersonate.as_) if isinstance(impersonate, ImpersonateAs) else None
            ),
            caller_ids=(
                frozenset(str(i) for i in impersonate.caller_id)
                if isinstance(impersonate, ImpersonateCallers)
                else frozenset()
            ),
            headers={h.lower(): h for h in grant.headers},
            limits=grant.limits,
            version=digest[:16],
            schema=schema,
        ),
        tuple(problems),
    )


def _routines(
    names: tuple[str | BoundName, ...],
) -> frozenset[tuple[str, str | None]]:
    return frozenset((n, None) if isinstance(n, str) else (n.name, n.table) for n in names)


def _star(
    rule: model.TableRule, at: tuple[str | int, ...], problems: list[GrantProblem]
) -> TableRights:
    for field in ("columns", "writable_columns", "row_filter"):
        if getattr(rule, field) is not None:
            problems.append(
                GrantProblem(
                    (*at, field), f'"*" takes operations only: name the table to set {field}'
                )
            )
            return TableRights(frozenset())
    return TableRights(frozenset(rule.operations))


def _rights(
    rule: model.TableRule,
    table: Table,
    schema: Schema,
    at: tuple[str | int, ...],
    problems: list[GrantProblem],
) -> TableRights:
    operations = frozenset(rule.operations)
    readable = _columns(rule.columns, table, (*at, "columns"), problems)
    writable = _columns(rule.writable_columns, table, (*at, "writable_columns"), problems)
    if rule.writable_columns is None:
        writable = readable
    row_filter: RowFilter | None = None
    if rule.row_filter is not None:
        try:
            row_filter = compile_row_filter(rule.row_filter, table, schema)
        except RowFilterInvalid as error:
            problems.append(GrantProblem((*at, "row_filter"), str(error)))
            # Without its filter the table would be wide open: it is closed instead.
            return TableRights(frozenset())
        listed = row_filter.columns.intersection(rule.writable_columns or ())
        if listed:
            problems.append(
                GrantProblem(
                    (*at, "writable_columns"),
                    f"{', '.join(sorted(listed))} stands in row_filter and cannot be written",
                )
            )
        writable = _without(writable, row_filter.columns, table)
        if Operation.CREATE in operations and row_filter.sets is None:
            problems.append(
                GrantProblem(
                    (*at, "operations"),
                    "create needs a row_filter of the form column eq value, joined with and:"
                    " the broker sets those columns",
                )
            )
            operations -= {Operation.CREATE}
    return TableRights(
        operations=operations,
        readable=readable,
        writable=writable,
        row_filter=row_filter,
        selectable=_selectable(rule, table, readable),
    )


def _columns(
    names: tuple[str, ...] | None,
    table: Table,
    at: tuple[str | int, ...],
    problems: list[GrantProblem],
) -> Columns:
    if names is None:
        return ALL
    problems.extend(
        GrantProblem(at, _unknown("column", n, table.columns))
        for n in names
        if n not in table.columns
    )
    return frozenset(names)


def _without(columns: Columns, taken: frozenset[str], table: Table) -> Columns:
    if columns is ALL:
        return frozenset(table.columns) - taken
    assert isinstance(columns, frozenset)
    return columns - taken


def _selectable(rule: model.TableRule, table: Table, readable: Columns) -> tuple[str, ...]:
    """Property names that an added `$select` asks for."""
    if readable is ALL:
        return ()
    names = [table.columns[c].name for c in rule.columns or () if c in table.columns]
    # A grant without any readable column still may count rows and see their ids.
    return tuple(dict.fromkeys(names)) or (table.primary_key,)


def _unknown(what: str, name: str, known: Mapping[str, object] | Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"the schema knows no {what} {name}{hint}"

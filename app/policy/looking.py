"""Looking rows up before they are touched: the question, the answer, and what follows from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from msgspec.structs import replace

from app.errors import PreconditionFailed, UpstreamFailed
from app.odata.query import Query, write_options
from app.odata.target import write_query
from app.odata.tree import Binary, Literal, Logical, Member, conjuncts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.odata.reading import Reading
    from app.odata.tree import Expression
    from app.policy.decision import LookUp
    from app.schema.model import Schema


ENOUGH = 2
"""Rows of a look-up: two tell that they are too many."""


def look_up_target(look_up: LookUp, schema: Schema) -> str:
    """`new_projects?$select=new_projectid&$filter=… and new_projectid eq …`, encoded."""
    row = look_up.row
    table = schema.sets[row.table]
    primary = table.primary_key
    keys: list[Expression] = [
        Binary("eq", Member((name or primary,)), Literal(value.text))
        for name, value in row.key.values
    ]
    condition = Logical("and", (*conjuncts(look_up.row_filter.condition), *keys))
    query = Query(select=(primary,), filter=condition, top=ENOUGH)
    return f"{row.table}?{write_query(write_options(query))}"


def names_by_id(look_up: LookUp, schema: Schema) -> bool:
    """Whether the row is named by its GUID, and not by columns whose types may differ."""
    row = look_up.row
    return row.key.id_in(schema.sets[row.table].primary_key) is not None


def read_look_up(body: bytes) -> str | None:
    """The row's ETag, or None where no row meets the filter.

    Nor do several: what names more than one row is no key, and Dataverse may take another one.
    Raises `UpstreamFailed` where the answer is no list of rows.
    """
    try:
        rows = json.loads(body)["value"]
        etags = [str(row["@odata.etag"]) for row in rows]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UpstreamFailed(
            "upstream-malformed", "Dataverse answered a row look-up with something else"
        ) from error
    return etags[0] if len(etags) == 1 else None


def found(reading: Reading, etags: Mapping[LookUp, str | None]) -> Reading:
    """The request with the rows' ETags as preconditions.

    Raises `PreconditionFailed`: `no-such-row`, or `etag-mismatch` where the caller's own ETag
    is not the row's.
    """
    preconditions: dict[int, str] = {}
    for look_up, etag in etags.items():
        if etag is None:
            raise PreconditionFailed(
                "no-such-row", f"{look_up.row.table} has no such row for this caller"
            )
        if not look_up.applies_precondition:
            continue
        expected = look_up.expected
        if expected is not None and etag not in (e.strip() for e in expected.split(",")):
            raise PreconditionFailed(
                "etag-mismatch", f"the row of {look_up.row.table} has another version by now"
            )
        preconditions[look_up.part] = etag
    if not preconditions:
        return reading
    batch = reading.batch
    if batch is None:
        return _with_etag(reading, preconditions.get(0))
    return replace(
        reading,
        body=batch.mapped(lambda p: _with_etag(p.reading, preconditions.get(p.number))),
    )


def _with_etag(reading: Reading, etag: str | None) -> Reading:
    if etag is None:
        return reading
    return replace(reading, headers=replace(reading.headers, if_match=etag))

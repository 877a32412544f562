"""Decide: grant and reading in, allowed (with what to send) or refused (with why) out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from msgspec.structs import replace

from app.config.model import Operation
from app.odata.body import Record
from app.odata.demands import Unknown
from app.odata.reading import Batch, Precondition, Reading
from app.policy.continuing import own_columns
from app.policy.decision import Allow, Decision, LookUp, Missing, Refuse
from app.policy.judge import judge_accesses, judge_demand
from app.policy.narrow import Narrower

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.odata.access import Access
    from app.odata.demands import Demand
    from app.odata.headers import RequestHeaders
    from app.odata.reading import Body
    from app.policy.grants import Grant


TOLD_MAX = 1000
"""What a whole batch is told to be missing; beyond that, one thing for each part."""


def decide(grant: Grant, reading: Reading) -> Decision:
    """Every access granted, every demand met: allowed. Pure, and the same every time."""
    impersonation = _impersonation(grant, reading)
    if isinstance(impersonation, Refuse):
        return impersonation
    batch = reading.batch
    if batch is not None:
        return _decide_batch(grant, reading, batch, impersonation)
    if not grant.enforce:
        missing = tuple(_missing(grant, reading))
        return Allow(reading, caller_object_id=impersonation, shadow=missing)
    return _decide_one(grant, reading, impersonation, part=0)


def _decide_one(
    grant: Grant, reading: Reading, caller_object_id: str | None, *, part: int
) -> Decision:
    missing = _missing(grant, reading)
    if missing:
        return Refuse(tuple(missing))
    closed = _close_upsert(grant, reading)
    narrowed = _narrow(grant, closed)
    if reading.sealed_by is not None and narrowed.query != reading.query:
        return Refuse(
            (Missing("the grant has changed since this continuation was handed out: begin again"),)
        )
    return Allow(narrowed, _look_ups(grant, closed, part), caller_object_id)


def _decide_batch(
    grant: Grant, reading: Reading, batch: Batch, caller_object_id: str | None
) -> Decision:
    """One refused part refuses the batch; every one that is refused is named."""
    refused: list[Missing] = []
    shadow: list[Missing] = []
    look_ups: list[LookUp] = []
    decided: dict[int, Reading] = {}
    for part in batch.parts():
        acting = _impersonation(grant, part.reading)
        if isinstance(acting, Refuse):
            return Refuse(_in_part(acting.missing, part.number), acting.code)
        if not grant.enforce:
            shadow.extend(_in_part(_missing(grant, part.reading), part.number, len(shadow)))
            decided[part.number] = part.reading
            continue
        decision = _decide_one(grant, part.reading, None, part=part.number)
        if isinstance(decision, Refuse):
            refused.extend(_in_part(decision.missing, part.number, len(refused)))
            continue
        look_ups.extend(decision.look_ups)
        decided[part.number] = decision.reading
    if refused:
        return Refuse(tuple(refused))
    return Allow(
        replace(reading, body=batch.mapped(lambda p: decided[p.number])),
        tuple(look_ups),
        caller_object_id,
        tuple(shadow),
    )


def _in_part(
    missing: tuple[Missing, ...] | list[Missing], number: int, told: int = 0
) -> tuple[Missing, ...]:
    """`told` is how much other parts have been told already."""
    if told >= TOLD_MAX:
        missing = missing[:1]
    return tuple(
        dataclasses.replace(m, says=f"part {number}: {m.says}", part=number) for m in missing
    )


# ------------------------------------------------------------ impersonation


def _impersonation(grant: Grant, reading: Reading) -> str | Refuse | None:
    """Whom Dataverse shall take the caller for; refused, not dropped, where not granted:
    the call would run with more rights than was asked for.
    """
    headers: RequestHeaders = reading.headers
    if headers.caller_id is not None:
        return Refuse(
            (Missing("MSCRMCallerID is not granted: impersonation is by CallerObjectId"),),
            "impersonation-refused",
        )
    asked = headers.caller_object_id
    if asked is None:
        return grant.impersonate_as
    if asked.lower() in grant.caller_ids:
        return asked.lower()
    return Refuse(
        (Missing("the CallerObjectId that is asked for is not granted"),), "impersonation-refused"
    )


# ------------------------------------------------------------------ missing


def _missing(grant: Grant, reading: Reading) -> list[Missing]:
    own = own_columns(grant, reading) if reading.sealed_by is not None else {}
    missing = judge_accesses(grant, reading.accesses, own=own)
    halves = _halves(grant, reading)
    for demand in _told_once(reading, halves) if halves else reading.demands:
        found = judge_demand(grant, demand)
        if found is not None:
            missing.append(found)
    if Operation.UPDATE in halves:
        missing.extend(judge_accesses(grant, reading.if_updated))
    if Operation.CREATE in halves:
        missing.extend(judge_accesses(grant, reading.if_created))
    return missing


def _halves(grant: Grant, reading: Reading) -> frozenset[Operation]:
    """Which of its halves an open upsert is judged by: those that the caller holds; holding none,
    the update.
    """
    if reading.precondition is not Precondition.OPEN:
        return frozenset()
    held: set[Operation] = set()
    if all(_holds(grant, a) for a in reading.if_updated):
        held.add(Operation.UPDATE)
    if all(_holds(grant, a) for a in reading.if_created) and not _filtered(
        grant, reading.if_created
    ):
        held.add(Operation.CREATE)
    return frozenset(held or {Operation.UPDATE})


def _told_once(reading: Reading, halves: frozenset[Operation]) -> Iterator[Demand]:
    """An open upsert notes each unknown name for both of its halves; one of them is enough."""
    noted = frozenset(reading.demands)
    for demand in reading.demands:
        if isinstance(demand, Unknown) and demand.operation not in halves:
            others = (dataclasses.replace(demand, operation=half) for half in halves)
            if any(other in noted for other in others):
                continue
        yield demand


def _holds(grant: Grant, access: Access) -> bool:
    rights = grant.rights(access.table)
    return rights is not None and access.operation in rights.operations


def _filtered(grant: Grant, accesses: tuple[Access, ...]) -> bool:
    """Nobody upserts in a filtered table: a PATCH there is an update."""
    return any(grant.filter_of(a.table) is not None for a in accesses)


def _close_upsert(grant: Grant, reading: Reading) -> Reading:
    if reading.precondition is not Precondition.OPEN:
        return reading
    halves = _halves(grant, reading)
    if len(halves) > 1:
        return reading
    if Operation.UPDATE in halves:
        return replace(
            reading,
            body=_of_a_row_that_is_there(reading.body),
            precondition=Precondition.EXISTS,
            headers=replace(reading.headers, if_match="*"),
            accesses=(*reading.accesses, *reading.if_updated),
            if_updated=(),
            if_created=(),
        )
    return replace(
        reading,
        precondition=Precondition.ABSENT,
        headers=replace(reading.headers, if_none_match="*"),
        accesses=(*reading.accesses, *reading.if_created),
        if_updated=(),
        if_created=(),
    )


def _of_a_row_that_is_there(body: Body) -> Body:
    """It does not get what new rows get."""
    return replace(body, creates=False) if isinstance(body, Record) else body


# ---------------------------------------------------------------- narrowing


def _narrow(grant: Grant, reading: Reading) -> Reading:
    narrower = Narrower(grant)
    query = reading.query
    if reading.returns is not None:
        query = narrower.query(query, reading.returns)
    body = narrower.body(reading.body)
    if query is reading.query and body is reading.body:
        return reading
    return replace(reading, query=query, body=body)


def _look_ups(grant: Grant, reading: Reading, part: int) -> tuple[LookUp, ...]:
    found: list[LookUp] = []
    for row in reading.rows:
        row_filter = grant.filter_of(row.table)
        if row_filter is None:
            continue
        expected = reading.headers.if_match if row.writes else None
        found.append(
            LookUp(row, row_filter, part, row.writes, None if expected == "*" else expected)
        )
    return tuple(found)

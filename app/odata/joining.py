"""Rows joined to rows, by a bind, a `$ref` or a nested insert: whose rights that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.odata.access import Operation
from app.odata.demands import Association

if TYPE_CHECKING:
    from app.odata.demands import Findings
    from app.schema.model import Navigation

OWNER = "ownerid"
"""The lookup whose writing is Dataverse's Assign, too."""


def write_lookup(found: Findings, sets: tuple[str, ...], column: str) -> None:
    """A lookup of rows that are there already gets another value, or none."""
    found.use(sets, Operation.UPDATE, column)
    if column == OWNER:
        found.use(sets, Operation.ASSIGN)


def join(
    found: Findings,
    navigation: Navigation,
    *,
    near: tuple[str, ...],
    far: tuple[str, ...],
    near_made: bool,
    far_made: bool,
) -> None:
    """The accesses of joining rows, beside the near row's own lookup column.

    A row that the same request makes needs no append_to: creating it stands for that.
    """
    if navigation.collection and navigation.column is not None:
        # The far rows hold the lookup, and it will point at the near one.
        write_lookup(found, far, navigation.column)
    elif not far_made:
        found.use(far, Operation.APPEND_TO)
    if navigation.collection and not near_made:
        found.use(near, Operation.APPEND_TO)
    if navigation.many_to_many:
        found.demand(Association((near[0], far[0])))


def part(
    found: Findings, navigation: Navigation, *, near: tuple[str, ...], far: tuple[str, ...]
) -> None:
    """The accesses of taking a row out of a collection."""
    if navigation.column is not None:
        write_lookup(found, far, navigation.column)
        return
    found.use(near, Operation.APPEND_TO)
    found.use(far, Operation.APPEND_TO)
    found.demand(Association((near[0], far[0])))

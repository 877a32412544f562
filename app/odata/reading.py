"""What reading a request gives: an immutable value, from which it is judged and written again."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.odata.access import Access
    from app.odata.body import Record
    from app.odata.demands import Demand, Row
    from app.odata.headers import RequestHeaders
    from app.odata.json_text import Json
    from app.odata.links import Reference
    from app.odata.query import Query
    from app.odata.segments import Segment


class BodyMode(StrEnum):
    """How a body has to be taken in, once the head is read."""

    NONE = "none"
    JSON = "json"
    BATCH = "batch"
    STREAM = "stream"
    """Bytes of a file, which pass unread."""


class Precondition(StrEnum):
    """What a PATCH says about the row's being there."""

    NOT_ASKED = "not asked"
    """No PATCH of a row."""
    OPEN = "open"
    """Neither: Dataverse upserts."""
    EXISTS = "exists"
    ABSENT = "absent"


class Rows(msgspec.Struct, frozen=True):
    """Rows that come back: of which type, from which sets; many or one."""

    type_name: str
    sets: tuple[str, ...]
    collection: bool
    selects: bool = True
    """False where only a count or references come back: no `$select` narrows those."""


class Value(msgspec.Struct, frozen=True):
    """`{"value": …}`, of one column."""

    value: Json

    def __repr__(self) -> str:
        return "Value(…)"


class Targets(msgspec.Struct, frozen=True):
    """The rows of a bulk message."""

    records: tuple[Record, ...]


class Parameters(msgspec.Struct, frozen=True):
    """An action's body, or nothing."""

    value: Json

    def __repr__(self) -> str:
        return "Parameters(…)"


class Stream(msgspec.Struct, frozen=True):
    """A file's bytes, not looked at."""


class ChangeSet(msgspec.Struct, frozen=True):
    """Parts that Dataverse does all or none of."""

    parts: tuple[Part, ...]


class Part(msgspec.Struct, frozen=True):
    """One request of a batch. `number` counts requests from 1, in order."""

    number: int
    reading: Reading
    content_id: str | None = None


class Batch(msgspec.Struct, frozen=True):
    items: tuple[Part | ChangeSet, ...]

    def parts(self) -> tuple[Part, ...]:
        found: list[Part] = []
        for item in self.items:
            if isinstance(item, ChangeSet):
                found.extend(item.parts)
            else:
                found.append(item)
        return tuple(found)

    def mapped(self, change: Callable[[Part], Reading]) -> Batch:
        """The same batch, every part with another reading."""

        def part(old: Part) -> Part:
            return replace(old, reading=change(old))

        return Batch(
            tuple(
                ChangeSet(tuple(part(p) for p in item.parts))
                if isinstance(item, ChangeSet)
                else part(item)
                for item in self.items
            )
        )


if TYPE_CHECKING:
    Body = Record | Value | Reference | Targets | Parameters | Stream | Batch | None


class Reading(msgspec.Struct, frozen=True):
    """A request that could be read.

    `accesses` are what it does whatever the row's state; an open upsert does `if_updated` or
    `if_created` besides. `rows` are those addressed by key. `sealed_by` names the application
    of a continuation whose seal held; nothing may be added to such a request.
    """

    method: str
    path: tuple[Segment, ...]
    query: Query
    headers: RequestHeaders
    body: Body
    returns: Rows | None
    accesses: tuple[Access, ...]
    demands: tuple[Demand, ...] = ()
    rows: tuple[Row, ...] = ()
    precondition: Precondition = Precondition.NOT_ASKED
    if_updated: tuple[Access, ...] = ()
    if_created: tuple[Access, ...] = ()
    sealed_by: str | None = None
    seal: str | None = None
    writes: bool = False
    file: bool = False
    """Headers of file transfers travel, and Accept as it is."""
    kind: str = ""

    def __repr__(self) -> str:
        return f"Reading({self.method} {self.kind})"

    @property
    def streams(self) -> bool:
        """Whether the caller's body passes unread."""
        return isinstance(self.body, Stream)

    @property
    def batch(self) -> Batch | None:
        return self.body if isinstance(self.body, Batch) else None

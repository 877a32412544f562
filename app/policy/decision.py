"""What deciding gives: allowed with what to send, or refused with what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.odata.access import Access
    from app.odata.demands import Row
    from app.odata.reading import Reading
    from app.policy.grants import RowFilter


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that no grant covers. `part` counts a batch's requests from 1.

    `access` is set where the thing is an access; names in it that the schema does not know are
    told in the same words as those that it does.
    """

    says: str
    access: Access | None = None
    part: int | None = None


@dataclass(frozen=True, slots=True)
class LookUp:
    """A row of a filtered table, to be found before anything is sent.

    `applies_precondition` says that the row's ETag goes along as If-Match, on `part` of a batch
    or (0) on the request itself; `expected` is the ETag that the caller brought.
    """

    row: Row
    row_filter: RowFilter
    part: int = 0
    applies_precondition: bool = False
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Allow:
    """Granted. `reading` is what goes to Dataverse: narrowed, closed, filtered.

    `shadow` is what would have been refused if the grant enforced.
    """

    reading: Reading
    look_ups: tuple[LookUp, ...] = ()
    caller_object_id: str | None = None
    shadow: tuple[Missing, ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not granted. `code` is `not-granted` or `impersonation-refused`."""

    missing: tuple[Missing, ...]
    code: str = "not-granted"

    @property
    def detail(self) -> str:
        return "; ".join(dict.fromkeys(m.says for m in self.missing))


Decision = Allow | Refuse

"""What a request touched while it was carried out: the second opinion on what it asks for.

A broker judges a request by reading it. Here stands what was done, noted by the code that did
it, so that a test can ask whether the one lies within the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

UNASKED = "Unasked"
"""A column that came back though nobody named it (dataverse-reference 3.20, PR-02)."""
CALL = "Call"
METADATA = "Metadata"


@dataclass(frozen=True, slots=True, order=True)
class Touch:
    """`operation`: Read, Create, Write, Delete, Append, AppendTo, Assign, or one of the above.

    `table`: logical name; the operation's own for a call. `column`: logical name, empty for the
    table as such.
    """

    operation: str
    table: str
    column: str = ""


class Footprint:
    """Grows while a request is carried out; what failed half-way leaves what it touched so far."""

    def __init__(self) -> None:
        self._touches: set[Touch] = set()

    def __iter__(self) -> Iterator[Touch]:
        return iter(sorted(self._touches))

    def __len__(self) -> int:
        return len(self._touches)

    def add(self, operation: str, table: str, column: str = "") -> None:
        self._touches.add(Touch(operation, table, column))

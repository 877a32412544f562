"""The vocabulary that every stage shares: what a request would do in Dataverse."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from app.config.model import Operation

__all__ = ["ALL", "Access", "AllColumns", "Columns", "Operation"]


class AllColumns(Enum):
    """Every column of a table, those it will have tomorrow included."""

    ALL = "ALL"

    def __repr__(self) -> str:
        return "ALL"


ALL: Final[Literal[AllColumns.ALL]] = AllColumns.ALL

Columns = frozenset[str] | AllColumns


@dataclass(frozen=True, slots=True)
class Access:
    """One privilege used on one table (an entity set name), on some of its columns.

    An empty set of columns is an access too: to the rows themselves (a count, a path's start).
    """

    table: str
    operation: Operation
    columns: Columns = field(default_factory=frozenset)

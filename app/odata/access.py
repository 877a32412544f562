"""The vocabulary that every stage shares: what a request would do in Dataverse."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from app.config.model import Operation

__all__ = ["ALL", "Access", "AllColumns", "Columns", "Operation"]


class AllColumns:
    """Every column of a table, those it will have tomorrow included."""

    _instance: AllColumns | None = None

    def __new__(cls) -> AllColumns:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "ALL"

    def __reduce__(self) -> str:
        return "ALL"


ALL: Final = AllColumns()

Columns = frozenset[str] | AllColumns


@dataclass(frozen=True, slots=True)
class Access:
    """One privilege used on one table (an entity set name), on some of its columns.

    An empty set of columns is an access too: to the rows themselves (a count, a path's start).
    """

    table: str
    operation: Operation
    columns: Columns = field(default_factory=frozenset)

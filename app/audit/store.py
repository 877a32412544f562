"""What the journal and the readers ask of a place where entries are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from app.audit.chain import Entry, Head
    from app.audit.query import Page, Query
    from app.audit.record import Record


class StoreFailed(Exception):
    """The store did not do what it was asked; what it holds now is not known.

    `detail` is for people: it quotes nothing that was to be stored.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class JournalStore(Protocol):
    """The writing side. Every call blocks; all come from the journal's writer thread."""

    def open(self) -> None:
        """Connect, and make what is missing. Raises `StoreFailed`.

        Raises `Misconfigured` for a store that a newer program has written.
        """
        ...

    def begin(self, opening: Callable[[tuple[Head, ...]], Entry]) -> None:
        """Store the first entry of a chain, made from the heads of the chains that are there."""
        ...

    def append(self, entries: Sequence[Entry]) -> None:
        """All or none, durable on return; of one chain.

        Raises `StoreFailed`, after which both are possible.
        """
        ...

    def head(self, writer: str) -> Head | None:
        """The last entry of a writer that the store holds."""
        ...

    def room_bytes(self) -> int | None:
        """Free space where the entries are kept; None where nobody can know.

        Raises `StoreFailed` when the place is gone.
        """
        ...

    def close(self) -> None:
        """Never raises."""
        ...


class RecordReader(Protocol):
    """The answering side. Raises `StoreFailed` when the store cannot be read."""

    async def query(self, query: Query, *, now: datetime) -> Page:
        """Raises `Unreadable` for a cursor that is not one."""
        ...

    async def get(self, record_id: str, *, now: datetime) -> Record | None:
        """The outcome, or the intent as long as there is none."""
        ...

    async def aclose(self) -> None: ...

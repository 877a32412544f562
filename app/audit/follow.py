"""New entries as they come, for `audit tail -f` and for what watches from outside.

It reads the store and not the journal: so it never holds a request up, sees every replica's
records, and can begin again where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.audit.chain import Entry


class _Place(Protocol):
    """Where an entry stands in its store, in the store's own terms."""

    def __lt__(self, other: Any, /) -> bool: ...
    def __gt__(self, other: Any, /) -> bool: ...


P = TypeVar("P", bound=_Place)


def follow(
    read: Callable[[P], Iterator[tuple[P, Entry]]],
    start: P,
    *,
    wait: Callable[[], bool],
    overlap: Callable[[P], P] = lambda place: place,
) -> Iterator[tuple[P, Entry]]:
    """Entries after `start`, until `wait`, which is called when all was read, says True.

    `read` gives the entries after a place. `overlap` goes back a little from one: where several
    write at once, an entry may appear that lies before one that was seen. None comes twice.
    """
    seen: dict[str, int] = {}
    last = start
    while True:
        for place, entry in read(overlap(last)):
            if entry.seq <= seen.get(entry.writer, 0):
                continue
            seen[entry.writer] = entry.seq
            if start < place:
                yield place, entry
            last = max(last, place)
        if wait():
            return

"""What arrived, so that a test can compare what was sent with what was meant to be."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

KEPT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """`target`: path and query as they came. Headers hold tokens, bodies hold data: no `repr`."""

    at: datetime
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The first of that name, however it is spelt."""
        wanted = name.lower()
        return next((v for k, v in self.headers if k.lower() == wanted), None)


class Journal:
    """The last requests, oldest first. `total` counts those too that have been forgotten."""

    def __init__(self, kept: int = KEPT) -> None:
        self._arrivals: deque[Arrival] = deque(maxlen=kept)
        self.total = 0

    def __iter__(self) -> Iterator[Arrival]:
        return iter(tuple(self._arrivals))

    def __len__(self) -> int:
        return len(self._arrivals)

    def add(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)
        self.total += 1

    def clear(self) -> None:
        self._arrivals.clear()
        self.total = 0

    @property
    def last(self) -> Arrival:
        return self._arrivals[-1]

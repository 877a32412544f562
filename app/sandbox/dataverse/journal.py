"""What arrived, so that a test can compare what was sent with what was meant to be."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.sandbox.dataverse.footprint import Footprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

KEPT = 10_000
BYTES_MAX = 64 * 1024 * 1024
"""Of bodies, all together; the oldest requests are forgotten first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """`target`: path and query as they came. Headers hold tokens, bodies hold data: no `repr`.

    `service_request_id`: what the answer says in x-ms-service-request-id.
    """

    at: datetime
    service_request_id: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    footprint: Footprint = field(default_factory=Footprint, compare=False, repr=False)
    """What it touched; complete once it is answered."""

    def header(self, name: str) -> str | None:
        """The first of that name, however it is spelt."""
        wanted = name.lower()
        return next((v for k, v in self.headers if k.lower() == wanted), None)


class Journal:
    """The last requests, oldest first. `total` counts those too that have been forgotten."""

    def __init__(self, kept: int = KEPT) -> None:
        self._arrivals: deque[Arrival] = deque()
        self._kept = kept
        self._body_bytes = 0
        self.total = 0

    def __iter__(self) -> Iterator[Arrival]:
        return iter(tuple(self._arrivals))

    def __len__(self) -> int:
        return len(self._arrivals)

    def add(self, arrival: Arrival) -> None:
        arrivals = self._arrivals
        arrivals.append(arrival)
        self._body_bytes += len(arrival.body)
        while len(arrivals) > self._kept or (self._body_bytes > BYTES_MAX and len(arrivals) > 1):
            self._body_bytes -= len(arrivals.popleft().body)
        self.total += 1

    def clear(self) -> None:
        self._arrivals.clear()
        self._body_bytes = 0
        self.total = 0

    @property
    def last(self) -> Arrival:
        return self._arrivals[-1]

"""What it takes to keep a limit: counting requests in a minute, and requests under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Spent:
    """A rate that is used up, and in how many seconds there is room for one more request."""

    reset_s: int


class Slot(Protocol):
    """A place among the requests under way."""

    async def give_back(self) -> None:
        """Raises nothing: a slot that cannot be given back runs out by itself."""
        ...


class Counts(Protocol):
    """Counters by key. `most` and `per_minute` belong to the key, and may change any time."""

    async def hit(self, key: str, per_minute: int) -> Spent | None:
        """Count one request, or say that there is no room for it."""
        ...

    async def take(self, key: str, most: int) -> Slot | None:
        """One of `most` slots; None where all are taken."""
        ...


class SharedCounts(Counts, Protocol):
    """Counters outside this process. `hit` and `take` raise `CountsLost`."""

    async def keep(self) -> None:
        """Renew what is held, for ever."""
        ...

    async def aclose(self) -> None: ...


class CountsLost(Exception):
    """The counters that replicas share cannot be had. Holds no address and no password."""

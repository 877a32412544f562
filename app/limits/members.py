"""How many brokers share the applications' limits: counted in Redis, every process once.

A process holds a slot among the members and renews it like any other; one that dies is counted for
a minute more, in which its part lies idle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from app.limits.counting import CountsLost
from app.limits.rest import rest

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.limits.counting import Slot

KEY: Final = "members"
MEMBERS_MOST: Final = 10_000
LOOK_EVERY_S: Final = 10.0


class Holders(Protocol):
    """Slots that others hold too. Both raise `CountsLost`."""

    async def take(self, key: str, most: int) -> Slot | None: ...

    async def holders(self, key: str) -> int: ...


class Members:
    """`count` is as it was last seen: while Redis is away nobody takes more than before."""

    def __init__(self, holders: Holders | None, *, alone: int) -> None:
        """Without `holders` there are the `alone` processes of this replica and no others."""
        self._holders = holders
        self._slot: Slot | None = None
        self.count = alone

    def __call__(self) -> int:
        return self.count

    async def keep(self, changed: Callable[[], None]) -> None:
        """Runs beside the requests, for ever; `changed` is called when there are more or fewer."""
        while self._holders is not None:
            before = self.count
            try:
                await self._look(self._holders)
            except CountsLost:
                # It runs out meanwhile: another one is taken when Redis is back.
                self._slot = None
            if self.count != before:
                changed()
            await rest(LOOK_EVERY_S)

    async def aclose(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            await slot.give_back()

    async def _look(self, holders: Holders) -> None:
        if self._slot is None:
            self._slot = await holders.take(KEY, MEMBERS_MOST)
        self.count = max(1, await holders.holders(KEY))

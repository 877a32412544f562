"""Counters that a test sees through, and can lose."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.limits.counting import CountsLost, Spent


@dataclass
class Counters:
    """Grants what it is told to."""

    room: int = 1_000
    slots: int = 1_000
    lost: bool = False
    asked: list[str] = field(default_factory=list)
    given_back: int = 0
    closed: bool = False

    async def hit(self, key: str, per_minute: int) -> Spent | None:
        self._ask(f"hit {key} {per_minute}")
        self.room -= 1
        return None if self.room >= 0 else Spent(12)

    async def take(self, key: str, most: int) -> Held | None:
        self._ask(f"take {key} {most}")
        if not self.slots:
            return None
        self.slots -= 1
        return Held(self)

    async def keep(self) -> None:
        self.asked.append("keep")

    async def aclose(self) -> None:
        self.closed = True

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.lost:
            raise CountsLost("ConnectionError")


@dataclass
class Held:
    counters: Counters

    async def give_back(self) -> None:
        self.counters.slots += 1
        self.counters.given_back += 1

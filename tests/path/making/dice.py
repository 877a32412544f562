"""What decides: hypothesis, so that what fails is made smaller, or a number, for long runs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol, TypeVar

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Dice(Protocol):
    def pick(self, options: Sequence[T]) -> T: ...

    def chance(self, likely: float) -> bool: ...

    def number(self, least: int, most: int) -> int: ...


class Drawn:
    """Thrown by hypothesis. What is unlikely needs large numbers, so small ones make less of it."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number(0, len(options) - 1)]

    def chance(self, likely: float) -> bool:
        return self.number(0, 999) >= 1000 - int(likely * 1000)

    def number(self, least: int, most: int) -> int:
        return self._data.draw(st.integers(least, most))


class Thrown:
    """The same every time for one number."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret

    def pick(self, options: Sequence[T]) -> T:
        return self._random.choice(options)

    def chance(self, likely: float) -> bool:
        return self._random.random() < likely

    def number(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

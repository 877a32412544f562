"""A value that can be held and opened, but not shown, copied out or written down by accident."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Hidden(Generic[T]):
    """Opaque to `repr`, `str`, pickle, copies and every JSON encoder.

    The value lives in a closure, because encoders and debuggers walk fields and slots. Opening
    is a call, so that every place that does can be found.
    """

    __slots__ = ("_opener",)

    def __init__(self, value: T) -> None:
        self._opener: Callable[[], T] = lambda: value

    def open(self) -> T:
        return self._opener()

    def __repr__(self) -> str:
        return "<hidden>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a hidden value is not pickled or copied")

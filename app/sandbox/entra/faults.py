"""What the emulated Entra can be told to get wrong, and how often."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from app.sandbox.entra.refusals import CATALOGUE
from app.sandbox.exchange import Answer, json_answer

if TYPE_CHECKING:
    from collections.abc import Iterable

_THROTTLED = {
    "error": "temporarily_unavailable",
    "error_description": "AADSTS90055: The tenant is throttled. Please try again.",
    "error_codes": [90055],
}
_HTML = (
    b"<!DOCTYPE html><html><head><title>Service Unavailable</title></head>"
    b"<body><h2>Our services aren't available right now</h2></body></html>"
)


class Scene(StrEnum):
    """Where a fault happens."""

    TOKEN = "token"  # noqa: S105 - a place, not a secret
    EVERYWHERE = "everywhere"
    """Discovery and keys too, as when Entra cannot be reached at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to go wrong. With nothing but a delay, the right answer follows late.

    `times` None: until it is cleared. `client_id` None: whoever asks.
    """

    delay_s: float = 0.0
    answer: Answer | None = None
    refuse_with: int | None = None
    """A code of the AADSTS catalogue."""
    cut: bool = False
    times: int | None = None
    client_id: str | None = None
    scene: Scene = Scene.TOKEN

    async def happens(self) -> bool:
        """Wait out the delay; False where the right answer follows after all."""
        await asyncio.sleep(self.delay_s)
        return self.cut or self.answer is not None


def slow(seconds: float, *, times: int | None = None) -> Fault:
    return Fault(delay_s=seconds, times=times)


def throttled(*, retry_after_s: int | None = 5, times: int | None = None) -> Fault:
    """429 as JSON, as Entra itself says it."""
    return Fault(
        answer=json_answer(_THROTTLED, status=429, headers=_retry(retry_after_s)), times=times
    )


def throttled_in_prose(*, retry_after_s: int | None = 5, times: int | None = None) -> Fault:
    """429 without JSON, as a gateway in front of Entra says it: MSAL trips over it."""
    answer = Answer(
        status=429,
        body=b"Too many requests",
        content_type="text/plain",
        headers=_retry(retry_after_s),
    )
    return Fault(answer=answer, times=times)


def unavailable(*, retry_after_s: int | None = None, times: int | None = None) -> Fault:
    """503 with a page for people."""
    answer = Answer(status=503, body=_HTML, content_type="text/html", headers=_retry(retry_after_s))
    return Fault(answer=answer, times=times)


def garbage(body: bytes = b'{"token_type":"Bearer"', *, times: int | None = None) -> Fault:
    """A 200 that is no token answer."""
    return Fault(answer=Answer(body=body), times=times)


def refused(code: int, *, times: int | None = None, client_id: str | None = None) -> Fault:
    """7000222: the secret has expired; 7000215: it is wrong; 7000112: disabled; and so on.

    Raises `ValueError` for a code that the catalogue does not have.
    """
    if code not in CATALOGUE:
        raise ValueError(f"AADSTS{code} is not in the catalogue")
    return Fault(refuse_with=code, times=times, client_id=client_id)


def dropped(*, times: int | None = None) -> Fault:
    """The connection is reset instead of an answer."""
    return Fault(cut=True, times=times)


def down() -> Fault:
    """Every address resets, until it is cleared."""
    return Fault(cut=True, scene=Scene.EVERYWHERE)


def _retry(seconds: int | None) -> tuple[tuple[str, str], ...]:
    return () if seconds is None else (("retry-after", str(seconds)),)


class Faults:
    """The faults in force, oldest first; each request meets the first that fits it."""

    def __init__(self) -> None:
        self._faults: list[tuple[Fault, int | None]] = []
        # Tests set faults from their own thread.
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._faults += [(fault, fault.times) for fault in faults]

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def in_force(self) -> tuple[Fault, ...]:
        with self._lock:
            return tuple(fault for fault, _ in self._faults)

    def meet(self, scenes: Iterable[Scene], *, client_id: str | None) -> Fault | None:
        """The fault that this request meets, counted as met."""
        wanted = set(scenes)
        with self._lock:
            for index, (fault, left) in enumerate(self._faults):
                if fault.scene not in wanted:
                    continue
                if fault.client_id is not None and fault.client_id != client_id:
                    continue
                if left == 1:
                    del self._faults[index]
                elif left is not None:
                    self._faults[index] = (fault, left - 1)
                return fault
        return None

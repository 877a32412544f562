"""What the emulated Dataverse can be told to get wrong, and how often."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum

from app.sandbox.dataverse.failures import JSON_TYPE, error_body
from app.sandbox.dataverse.messages import Answer


class Break(StrEnum):
    """How the wire goes wrong, where a status will not do."""

    RESET = "reset"
    """The connection is reset before a byte of an answer."""
    HALF = "half"
    """The head and half of the body, then nothing more: the connection is cut."""
    TWO_LENGTHS = "two-lengths"
    """Two Content-Lengths that differ."""
    BOTH = "both"
    """Content-Length and Transfer-Encoding: chunked."""
    LONG_HEADER = "long-header"
    """A header of 100 KB."""
    REDIRECT = "redirect"
    """302 to another host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to go wrong. With nothing but a delay, the right answer follows late.

    `times` None: until it is cleared. `path`, `method`: only where they occur in the request's.
    `before`: True answers at once; False does the work first, so that a write has happened.
    """

    delay_s: float = 0.0
    answer: Answer | None = None
    breaks: Break | None = None
    times: int | None = 1
    path: str = ""
    method: str = ""
    before: bool = True


def slow(seconds: float, *, times: int | None = None, path: str = "") -> Fault:
    return Fault(delay_s=seconds, times=times, path=path)


def answers(status: int, *, retry_after_s: int | None = None, times: int | None = 1) -> Fault:
    """429 says that too many requests came, 401 that the token expired, and so on."""
    code, message = {
        401: ("0x80040220", ""),
        429: (
            "0x80072322",
            "Number of requests exceeded the limit of 6000 over time window of 300 seconds.",
        ),
        503: ("0x80072323", "The service is unavailable."),
    }.get(status, ("0x80040216", "An unexpected error occurred."))
    headers: tuple[tuple[str, str], ...] = ()
    if status != 401:
        headers = (("Content-Type", JSON_TYPE), ("OData-Version", "4.0"))
    if retry_after_s is not None:
        headers = (*headers, ("Retry-After", str(retry_after_s)))
    body = b"" if status == 401 else error_body(code, message)
    return Fault(answer=Answer(status=status, headers=headers, body=body), times=times)


def broken(how: Break, *, times: int | None = 1, path: str = "", before: bool = True) -> Fault:
    return Fault(breaks=how, times=times, path=path, before=before)


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

    def meet(self, method: str, target: str) -> Fault | None:
        """The fault that this request meets, counted as met."""
        if not self._faults:
            return None
        with self._lock:
            for index, (fault, left) in enumerate(self._faults):
                if fault.path not in target or fault.method not in {"", method}:
                    continue
                if left == 1:
                    del self._faults[index]
                elif left is not None:
                    self._faults[index] = (fault, left - 1)
                return fault
        return None

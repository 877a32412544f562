"""Which trace a request belongs to (W3C Trace Context). Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_TRACEPARENT: Final = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?"
)
_NO_TRACE: Final = b"0" * 32
_NO_PARENT: Final = b"0" * 16


class Traceparent(NamedTuple):
    trace_id: str
    parent_id: str
    sampled: bool


def parse_traceparent(value: bytes) -> Traceparent | None:
    """The header's parts, or None where the specification says to start a new trace.

    A later version than 00 may carry more fields behind these four (3.2.4); 00 may not.
    """
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if trace_id == _NO_TRACE or parent_id == _NO_PARENT:
        return None
    return Traceparent(
        trace_id.decode("ascii"), parent_id.decode("ascii"), bool(int(flags, 16) & 1)
    )


def trace_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The trace that the record names: None where no header says so, or two do."""
    found: bytes | None = None
    for name, value in headers:
        if name == b"traceparent":
            if found is not None:
                return None
            found = value
    traceparent = parse_traceparent(found) if found is not None else None
    return traceparent.trace_id if traceparent else None

"""A request's headers: which travel, which are refused, and what they say about the request.

Hop-by-hop headers are dropped before anything is read. Names are compared in lower case, and
written as Dataverse documents them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from app.errors import Unreadable
from app.odata.preferences import NONE, Preferences, read_preferences

if TYPE_CHECKING:
    from collections.abc import Iterable

Pairs = tuple[tuple[bytes, bytes], ...]

_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_SINGLE = frozenset(
    {
        "authorization", "content-type", "content-length", "if-match", "if-none-match",
        "odata-version", "odata-maxversion", "odata-isolation", "callerobjectid",
        "mscrmcallerid", "broker-application", "content-encoding", "x-api-key", "range",
        "content-range", "x-ms-file-name", "x-ms-transfer-mode",
    }
)  # fmt: skip
_TRAVELLING = {
    "accept-language": "Accept-Language",
    "consistency": "Consistency",
    "x-ms-client-request-id": "x-ms-client-request-id",
    "traceparent": "traceparent",
}
_FILE = {
    "range": "Range",
    "content-range": "Content-Range",
    "x-ms-file-name": "x-ms-file-name",
    "x-ms-transfer-mode": "x-ms-transfer-mode",
}
_CONDITIONS_DROPPED = {
    "if-modified-since": "If-Modified-Since",
    "if-unmodified-since": "If-Unmodified-Since",
    "if-range": "If-Range",
}
_DOCUMENTED = {
    name.lower(): name
    for name in (
        "MSCRM.SuppressDuplicateDetection",
        "MSCRM.BypassBusinessLogicExecution",
        "MSCRM.BypassBusinessLogicExecutionStepIds",
        "MSCRM.BypassCustomPluginExecution",
        "MSCRM.SuppressCallbackRegistrationExpanderJob",
        "MSCRM.SolutionUniqueName",
        "MSCRM.MergeLabels",
        "MSCRM.SessionToken",
    )
}

_ETAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"'
_CONDITION = re.compile(rf"\*|{_ETAG}(?:[ \t]*+,[ \t]*+{_ETAG})*+")
_PLAIN_VALUE = re.compile(r"[\x20-\x7e\t\x80-\xff]*+")
_PLAIN_NAME = re.compile(r"[a-z0-9.-]{1,60}")
_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

REMEMBERED = 512
REMEMBERED_BYTES = 1024
"""Clients send the same few headers again and again, in each part of a batch too."""
_SECRET = frozenset({b"authorization", b"cookie", b"x-api-key"})


class RequestHeaders(msgspec.Struct, frozen=True):
    """All that is read of a request's headers.

    `caller_object_id` and `caller_id` are what the caller asks to act as, `mscrm` all of the
    MSCRM.* that he sent: the grant decides about both. `dropped` are those that would have
    meant something to Dataverse.
    """

    content_type: str | None = None
    accept: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    preferences: Preferences = NONE
    caller_object_id: str | None = None
    caller_id: str | None = None
    mscrm: tuple[tuple[str, str], ...] = ()
    travelling: tuple[tuple[str, str], ...] = ()
    file: tuple[tuple[str, str], ...] = ()
    application: str | None = None
    dropped: tuple[str, ...] = ()

    @property
    def returns_representation(self) -> bool:
        return self.preferences.returning == "representation"


def read_headers(pairs: Iterable[tuple[bytes, bytes]], *, part: bool = False) -> RequestHeaders:
    """Raises `Unreadable`: `bad-header`, `duplicate-header`, `unsupported-media-type`.

    `part` is one of a batch, where nobody picks an application.
    """
    given = tuple(pairs)
    size = 0
    for name, value in given:
        if name.lower() in _SECRET:
            return _read(given, part)
        size += len(name) + len(value)
    return _read(given, part) if size > REMEMBERED_BYTES else _remembered(given, part)


def _read(pairs: Pairs, part: bool) -> RequestHeaders:  # noqa: FBT001 - a cache's key
    values, mscrm = _values(pairs)
    if "content-encoding" in values:
        raise Unreadable("unsupported-media-type", "a compressed body is not read: send it plain")
    preferences = NONE
    not_preferred: tuple[str, ...] = ()
    if "prefer" in values:
        preferences, not_preferred = read_preferences(tuple(values["prefer"]))
    conditions = tuple(w for n, w in _CONDITIONS_DROPPED.items() if n in values)
    return RequestHeaders(
        content_type=_first(values, "content-type"),
        accept=_joined(values, "accept"),
        if_match=_condition("If-Match", _first(values, "if-match")),
        if_none_match=_condition("If-None-Match", _first(values, "if-none-match")),
        preferences=preferences,
        caller_object_id=_first(values, "callerobjectid"),
        caller_id=_first(values, "mscrmcallerid"),
        mscrm=mscrm,
        travelling=tuple(
            (written, ", ".join(values[n])) for n, written in _TRAVELLING.items() if n in values
        ),
        file=tuple((written, values[n][0]) for n, written in _FILE.items() if n in values),
        application=None if part else _first(values, "broker-application"),
        dropped=not_preferred + conditions,
    )


_remembered = lru_cache(REMEMBERED)(_read)


def _values(pairs: Pairs) -> tuple[dict[str, list[str]], tuple[tuple[str, str], ...]]:
    """The values by name in lower case, and MSCRM.* apart."""
    decoded = [(n.decode("latin-1").lower(), v.decode("latin-1").strip(" \t")) for n, v in pairs]
    hop: frozenset[str] | set[str] = _HOP_BY_HOP
    for name, value in decoded:
        if name == "connection":
            hop = hop | {token.strip().lower() for token in value.split(",")}
    values: dict[str, list[str]] = {}
    mscrm: dict[str, str] = {}
    for name, value in decoded:
        if name in hop:
            continue
        if _PLAIN_VALUE.fullmatch(value) is None:
            raise Unreadable("bad-header", f"the header {_shown(name)} has a control character")
        twice = name in values and (name in _SINGLE or name.startswith("odata-"))
        if twice or name in mscrm:
            raise Unreadable("duplicate-header", f"the header {_shown(name)} is given twice")
        if name.startswith("mscrm."):
            mscrm[name] = value
        else:
            values.setdefault(name, []).append(value)
    return values, tuple(mscrm.items())


def _shown(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else "(unprintable)"


def _first(values: dict[str, list[str]], name: str) -> str | None:
    found = values.get(name)
    return found[0] if found else None


def _joined(values: dict[str, list[str]], name: str) -> str | None:
    found = values.get(name)
    return ", ".join(found) if found else None


def _condition(name: str, value: str | None) -> str | None:
    # Microsoft's samples send the literal text `null`, meaning no condition.
    if value is None or value == "null":
        return None
    if _CONDITION.fullmatch(value) is None:
        raise Unreadable("bad-header", f"{name} is neither * nor an ETag")
    return value


def documented(name: str) -> str:
    """An MSCRM.* header, in lower case, as Dataverse's documentation writes it."""
    return _DOCUMENTED.get(name, name)


def is_guid(value: str) -> bool:
    return _GUID.fullmatch(value) is not None

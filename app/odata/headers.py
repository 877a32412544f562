"""A request's headers: which travel, which are refused, and what they say about the request.

Hop-by-hop headers are dropped before anything is read. Names are compared in lower case, and
written as Dataverse documents them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable

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
_PREFERENCES = frozenset(
    {
        "odata.maxpagesize", "odata.include-annotations", "return", "odata.continue-on-error",
        "odata.track-changes",
    }
)  # fmt: skip

_ETAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_CONDITION = re.compile(rf"\*|{_ETAG}(?:\s*,\s*{_ETAG})*")
_PREFERENCE = re.compile(
    r'\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,;"]*))?'
    r'((?:\s*;\s*[A-Za-z0-9!#$%&\'*+.^_`|~-]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s,;"]*))?)*)\s*(?:,|$)'
)
_ANNOTATIONS = re.compile(r"[A-Za-z0-9_.*,\s-]*")
_METADATA = re.compile(
    r"application/json[^,]*;\s*(?:odata\.)?metadata\s*=\s*\"?(none|minimal|full)\"?", re.IGNORECASE
)
_VALUE = re.compile(r"[\x20-\x7e\t\x80-\xff]*")
_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True)
class Preferences:
    """What `Prefer` asks for, of what the broker lets travel."""

    max_page_size: int | None = None
    annotations: str | None = None
    returning: str | None = None
    continue_on_error: bool = False
    track_changes: bool = False

    def text(self) -> str | None:
        parts: list[str] = []
        if self.max_page_size is not None:
            parts.append(f"odata.maxpagesize={self.max_page_size}")
        if self.annotations is not None:
            parts.append(f'odata.include-annotations="{self.annotations}"')
        if self.returning is not None:
            parts.append(f"return={self.returning}")
        if self.continue_on_error:
            parts.append("odata.continue-on-error")
        if self.track_changes:
            parts.append("odata.track-changes")
        return ",".join(parts) or None


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """All that is read of a request's headers.

    `caller_object_id` and `caller_id` are what the caller asks to act as, `mscrm` all of the
    MSCRM.* that he sent: the grant decides about both. `dropped` are those that would have
    meant something to Dataverse.
    """

    content_type: str | None = None
    accept: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    preferences: Preferences = Preferences()
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

    @property
    def accept_json(self) -> str:
        found = _METADATA.search(self.accept or "")
        return (
            "application/json"
            if found is None
            else f"application/json;odata.metadata={found.group(1).lower()}"
        )


def read_headers(pairs: Iterable[tuple[bytes, bytes]], *, part: bool = False) -> RequestHeaders:
    """Raises `Unreadable`: `bad-header`, `duplicate-header`, `unsupported-media-type`.

    `part` is one of a batch, whose own framing headers are nobody's business here.
    """
    decoded = [(n.decode("latin-1").lower(), v.decode("latin-1").strip(" \t")) for n, v in pairs]
    hop = set(_HOP_BY_HOP)
    for name, value in decoded:
        if name == "connection":
            hop.update(t.strip().lower() for t in value.split(","))
    # What frames the message and proves the caller is not a connection's to take away.
    values: dict[str, list[str]] = {}
    mscrm: list[tuple[str, str]] = []
    for name, value in decoded:
        if name in hop:
            continue
        if _VALUE.fullmatch(value) is None:
            raise Unreadable("bad-header", f"the header {_shown(name)} has a control character")
        if name in values and (name in _SINGLE or name.startswith("odata-")):
            raise Unreadable("duplicate-header", f"the header {_shown(name)} is given twice")
        if name.startswith("mscrm."):
            if any(name == n for n, _ in mscrm):
                raise Unreadable("duplicate-header", f"the header {_shown(name)} is given twice")
            mscrm.append((name, value))
        values.setdefault(name, []).append(value)
    if "content-encoding" in values and values["content-encoding"][0].lower() != "identity":
        raise Unreadable("unsupported-media-type", "a compressed body is not read: send it plain")
    dropped: list[str] = []
    preferences = _preferences(values.get("prefer", ()), dropped)
    if_none_match = _condition("If-None-Match", _first(values, "if-none-match"))
    return RequestHeaders(
        content_type=_first(values, "content-type"),
        accept=", ".join(values["accept"]) if "accept" in values else None,
        if_match=_condition("If-Match", _first(values, "if-match")),
        if_none_match=if_none_match,
        preferences=preferences,
        caller_object_id=_first(values, "callerobjectid"),
        caller_id=_first(values, "mscrmcallerid"),
        mscrm=tuple(mscrm),
        travelling=tuple(
            (written, values[name][0]) for name, written in _TRAVELLING.items() if name in values
        ),
        file=tuple((written, values[n][0]) for n, written in _FILE.items() if n in values),
        application=None if part else _first(values, "broker-application"),
        dropped=tuple(dropped),
    )


def _shown(name: str) -> str:
    return name if re.fullmatch(r"[a-z0-9.-]{1,60}", name) else "(unprintable)"


def _first(values: dict[str, list[str]], name: str) -> str | None:
    found = values.get(name)
    return found[0] if found else None


def _condition(name: str, value: str | None) -> str | None:
    # Microsoft's samples send the literal text `null`, meaning no condition.
    if value is None or value == "null":
        return None
    if _CONDITION.fullmatch(value) is None:
        raise Unreadable("bad-header", f"{name} is neither * nor an ETag")
    return value


def _preferences(lines: Iterable[str], dropped: list[str]) -> Preferences:
    found: dict[str, str] = {}
    for line in lines:
        at = 0
        while at < len(line):
            match = _PREFERENCE.match(line, at)
            if match is None or match.end() == at:
                if line[at:].strip(" \t,") == "":
                    break
                if line[at] in ", \t":
                    at += 1
                    continue
                raise Unreadable("bad-header", "Prefer is no list of preferences")
            at = match.end()
            name, value = match.group(1).lower(), match.group(2) or ""
            if name not in _PREFERENCES:
                if name not in dropped:
                    dropped.append(name)
                continue
            # The first one counts where one stands twice (RFC 7240, 2).
            found.setdefault(name, value.strip('"'))
    return Preferences(
        max_page_size=_page_size(found.get("odata.maxpagesize")),
        annotations=_annotations(found.get("odata.include-annotations")),
        returning=_returning(found.get("return")),
        continue_on_error=_flag(found.get("odata.continue-on-error")),
        track_changes=_flag(found.get("odata.track-changes")),
    )


def _page_size(value: str | None) -> int | None:
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value) is None or int(value) == 0:
        raise Unreadable("bad-header", "Prefer: odata.maxpagesize is a whole number above 0")
    return int(value)


def _annotations(value: str | None) -> str | None:
    if value is None:
        return None
    if _ANNOTATIONS.fullmatch(value) is None:
        raise Unreadable("bad-header", "Prefer: odata.include-annotations is a list of names")
    return value


def _returning(value: str | None) -> str | None:
    if value is None:
        return None
    if value not in {"representation", "minimal"}:
        raise Unreadable("bad-header", "Prefer: return is representation or minimal")
    return value


def _flag(value: str | None) -> bool:
    return value is not None and value.lower() != "false"


def is_guid(value: str) -> bool:
    return _GUID.fullmatch(value) is not None

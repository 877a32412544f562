"""`Prefer`: the preferences that travel, and the names of those that do not (RFC 7240)."""

from __future__ import annotations

import re

import msgspec

from app.errors import Unreadable

_TRAVELLING = frozenset(
    {
        "odata.maxpagesize", "odata.include-annotations", "return", "odata.continue-on-error",
        "odata.track-changes",
    }
)  # fmt: skip

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]++"
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_VALUE = rf"(?:{_QUOTED}|[^\s,;\"]*+)"
_PREFERENCE = re.compile(
    rf"\s*+({_WORD})(?:\s*+=\s*+({_VALUE}))?+"
    rf"(?:\s*+;\s*+{_WORD}(?:\s*+=\s*+{_VALUE})?+)*+\s*+(?:,|$)"
)
_EMPTY = re.compile(r"[\s,]*+")
_ANNOTATIONS = re.compile(r"[A-Za-z0-9_.*,\s-]*+")
_WHOLE = re.compile(r"[0-9]{1,9}")


class Preferences(msgspec.Struct, frozen=True):
    """What `Prefer` asks for, of what the broker lets travel."""

    max_page_size: int | None = None
    annotations: str | None = None
    returning: str | None = None
    continue_on_error: bool = False
    track_changes: bool = False


NONE = Preferences()


def read_preferences(lines: tuple[str, ...]) -> tuple[Preferences, tuple[str, ...]]:
    """What is asked for, and the names of what is dropped. Raises `Unreadable`: `bad-header`."""
    found: dict[str, str] = {}
    dropped: dict[str, None] = {}
    for line in lines:
        at = 0
        while at < len(line):
            empty = _EMPTY.match(line, at)
            assert empty is not None
            at = empty.end()
            if at == len(line):
                break
            match = _PREFERENCE.match(line, at)
            if match is None:
                raise Unreadable("bad-header", "Prefer is no list of preferences")
            at = match.end()
            name, value = match.group(1).lower(), match.group(2) or ""
            if name in _TRAVELLING:
                # The first one counts where one stands twice (RFC 7240, 2).
                found.setdefault(name, value.strip('"'))
            else:
                dropped[name] = None
    return (
        Preferences(
            max_page_size=_page_size(found.get("odata.maxpagesize")),
            annotations=_annotations(found.get("odata.include-annotations")),
            returning=_returning(found.get("return")),
            continue_on_error=_flag(found.get("odata.continue-on-error")),
            track_changes=_flag(found.get("odata.track-changes")),
        ),
        tuple(dropped),
    )


def write_preferences(wanted: Preferences, max_page_size: int | None) -> str | None:
    """The header's value, with this page size instead of the one that was asked for."""
    if wanted is NONE:
        return None if max_page_size is None else f"odata.maxpagesize={max_page_size}"
    parts: list[str] = []
    if max_page_size is not None:
        parts.append(f"odata.maxpagesize={max_page_size}")
    if wanted.annotations is not None:
        parts.append(f'odata.include-annotations="{wanted.annotations}"')
    if wanted.returning is not None:
        parts.append(f"return={wanted.returning}")
    if wanted.continue_on_error:
        parts.append("odata.continue-on-error")
    if wanted.track_changes:
        parts.append("odata.track-changes")
    return ",".join(parts) or None


def _page_size(value: str | None) -> int | None:
    if value is None:
        return None
    if _WHOLE.fullmatch(value) is None or int(value) == 0:
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

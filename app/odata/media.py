"""Content types that are read."""

from __future__ import annotations

import re

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]++"
_TYPE = re.compile(rf"[ \t]*+({_WORD}/{_WORD})[ \t]*+")
_PARAMETER = re.compile(
    rf";[ \t]*+(?:({_WORD})[ \t]*+=[ \t]*+(?:\"([^\"\\\r\n]*+)\"|([^\s;\",]++))[ \t]*+)?+"
)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]")
_UTF8 = frozenset({"utf-8", "utf8"})


def read_media_type(value: str) -> tuple[str, dict[str, str]] | None:
    """`type/subtype` and its parameters, names in lower case; None where it cannot be read."""
    match = _TYPE.match(value)
    if match is None:
        return None
    parameters: dict[str, str] = {}
    at = match.end()
    while at < len(value):
        found = _PARAMETER.match(value, at)
        if found is None:
            return None
        at = found.end()
        name, quoted, plain = found.groups()
        if name is None:
            continue
        if name.lower() in parameters:
            return None
        parameters[name.lower()] = plain if quoted is None else quoted
    return match.group(1).lower(), parameters


def is_json(content_type: str | None) -> bool:
    """`application/json` in UTF-8, whatever other parameters it has."""
    if content_type is None:
        return False
    if content_type == "application/json":
        return True
    found = read_media_type(content_type)
    if found is None or found[0] != "application/json":
        return False
    charset = found[1].get("charset")
    return charset is None or charset.lower() in _UTF8


def boundary(content_type: str | None) -> str | None:
    """The boundary of `multipart/mixed`, or None."""
    found = read_media_type(content_type or "")
    if found is None or found[0] != "multipart/mixed":
        return None
    said = found[1].get("boundary", "")
    return said if _BOUNDARY.fullmatch(said) else None


def json_accept(accept: str | None) -> str:
    """What is asked of Dataverse where JSON comes back, whatever the caller would take."""
    if accept is None or "metadata" not in accept.lower():
        return "application/json"
    for taken in accept.split(","):
        found = read_media_type(taken)
        if found is None or found[0] != "application/json":
            continue
        level = found[1].get("odata.metadata", found[1].get("metadata", "")).lower()
        if level in {"none", "minimal", "full"}:
            return f"application/json;odata.metadata={level}"
    return "application/json"

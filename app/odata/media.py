"""Content types that are read."""

from __future__ import annotations

import re

_JSON = re.compile(
    r"application/json\s*((?:;\s*[A-Za-z0-9.-]+\s*=\s*\"?[A-Za-z0-9.-]+\"?\s*)*);?\s*",
    re.IGNORECASE,
)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([A-Za-z0-9.-]+)", re.IGNORECASE)
_MULTIPART = re.compile(
    r"multipart/mixed\s*;\s*boundary\s*=\s*(?:\"([^\"\r\n]{1,200})\"|([^\s\";]{1,200}))\s*;?\s*",
    re.IGNORECASE,
)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]")


def is_json(content_type: str | None) -> bool:
    """`application/json` in UTF-8, whatever other parameters it has."""
    match = _JSON.fullmatch(content_type or "")
    if match is None:
        return False
    charset = _CHARSET.search(match.group(1))
    return charset is None or charset.group(1).lower() in {"utf-8", "utf8"}


def boundary(content_type: str | None) -> str | None:
    """The boundary of `multipart/mixed`, or None."""
    match = _MULTIPART.fullmatch(content_type or "")
    if match is None:
        return None
    found = match.group(1) or match.group(2)
    return found if _BOUNDARY.fullmatch(found) else None

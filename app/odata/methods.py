"""Which methods a place takes, told where one comes that it does not."""

from __future__ import annotations

from app.errors import Unreadable

METHODS = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE"})


def not_taken(why: str, *, allow: tuple[str, ...]) -> Unreadable:
    """What to raise. `allow` becomes the answer's Allow header (RFC 9110, 15.5.6)."""
    return Unreadable("method-not-allowed", why, extra={"allow": list(allow)})

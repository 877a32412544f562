"""Names of headers as Dataverse writes them, since some clients compare them letter by letter.

Microsoft's asynchronous client for Python looks for `OData-EntityId` and `Retry-After` in a plain
dict. HTTP does not mind the case of a name, ASGI wants lower case, and servers see to that with
`lower()`: so these names are bytes that have no other lower case than their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.web.asgi import Headers


class Spelt(bytes):
    """Stays as it is spelt."""

    __slots__ = ()

    def lower(self) -> Spelt:
        return self


# Not those by which a server frames the answer: it must know them when it sees them.
_DOCUMENTED: Final = {
    name.lower(): Spelt(name)
    for name in (
        *(b"Allow", b"Content-Disposition", b"Content-Encoding", b"Content-Range"),
        *(b"Content-Type", b"ETag", b"Location", b"OData-EntityId", b"OData-Version"),
        *(b"Preference-Applied", b"REQ_ID", b"Retry-After", b"WWW-Authenticate"),
        *(b"Broker-Attempts", b"Broker-Decision", b"Broker-Dropped-Headers"),
        *(b"Broker-Request-Id", b"Broker-Waited-Ms"),
    )
}


def as_documented(headers: Headers) -> Headers:
    """`headers` with names in lower case."""
    spelt = _DOCUMENTED.get
    return tuple([(spelt(name, name), value) for name, value in headers])

"""Which headers of an answer travel on to the caller, and where those that are links lead."""

from __future__ import annotations

import functools
import re
from enum import Enum
from typing import TYPE_CHECKING, Final

from app.dataverse.failures import ExchangeFailed, Stage
from app.dataverse.link_bases import SESSION_TOKEN

if TYPE_CHECKING:
    from app.dataverse.link_bases import LinkBases, Seal
    from app.dataverse.message import Headers

TRAVELLING: Final = frozenset(
    {
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"content-range",
        b"content-disposition",
        b"etag",
        b"location",
        b"odata-version",
        b"odata-entityid",
        b"preference-applied",
        b"retry-after",
        b"allow",
        b"req_id",
        b"x-ms-service-request-id",
        b"x-ms-chunk-size",
    }
)
TRAVELLING_PREFIXES: Final = (b"x-ms-ratelimit-", b"x-ms-file-")

_CHARSET: Final = re.compile(rb"charset\s*=\s*\"?([^\s\";]*)")
_LINKS: Final = frozenset({b"location", b"odata-entityid"})
_OF_THE_CONTENT: Final = frozenset({b"content-type", b"content-encoding"})
_OF_THE_BYTES: Final = frozenset({b"content-length", b"content-encoding"})


class BodyKind(Enum):
    """What an answer's body is, as far as links go."""

    JSON = "json"
    BATCH = "batch"
    OPAQUE = "opaque"
    """No links in it that anybody follows: a file, a number, XML."""


def headers_for_caller(
    headers: Headers, *, bases: LinkBases, seal: Seal, body_rewritten: bool
) -> Headers:
    """Those that travel, in lower case, links turned towards the broker.

    `body_rewritten`: length and coding belonged to bytes that are not sent on.
    """
    kept: list[tuple[bytes, bytes]] = []
    for pair in headers:
        name, value = pair
        if not travels(name):
            continue
        if name in _LINKS:
            link = link_for_caller(value, bases=bases, seal=seal)
            if link is not None:
                kept.append((name, link))
        elif not (body_rewritten and name in _OF_THE_BYTES):
            kept.append(pair)
    return tuple(kept)


@functools.lru_cache(maxsize=1024)
def travels(name: bytes) -> bool:
    """`name` in lower case."""
    return name in TRAVELLING or name.startswith(TRAVELLING_PREFIXES)


def link_for_caller(value: bytes, *, bases: LinkBases, seal: Seal) -> bytes | None:
    """A Location or OData-EntityId under the broker's base; None where it leads elsewhere.

    The address of a chunked transfer is a continuation: sealed, or not handed out.
    """
    url = value.decode("latin-1")
    link = bases.to_broker(url)
    if link is not None and SESSION_TOKEN.search(url):
        link = seal("session", "", url)
    return None if link is None else link.encode("latin-1")


def header(headers: Headers, name: bytes) -> bytes | None:
    """The first one of that name (lower case)."""
    for key, value in headers:
        if key == name:
            return value
    return None


def body_kind(headers: Headers) -> BodyKind:
    """By Content-Type. Anything that calls itself JSON is rewritten as JSON.

    Raises `ExchangeFailed` (`upstream-malformed`) for JSON in another encoding than UTF-8, whose
    links could not be found, and for two types or codings: the caller might read the other one.
    """
    content_type: bytes | None = None
    coding: bytes | None = None
    for name, value in headers:
        if name not in _OF_THE_CONTENT:
            continue
        if name == b"content-type":
            twice, content_type = content_type is not None, value
        else:
            twice, coding = coding is not None, value
        if twice:
            raise _malformed("says twice what it is")
    return _kind_of(content_type or b"")


@functools.lru_cache(maxsize=256)
def _kind_of(content_type: bytes) -> BodyKind:
    media, _, parameters = content_type.lower().partition(b";")
    media = media.strip()
    if media == b"multipart/mixed":
        return BodyKind.BATCH
    if not media.endswith((b"/json", b"+json")):
        return BodyKind.OPAQUE
    charset = _CHARSET.search(parameters)
    if charset is not None and charset[1] not in {b"utf-8", b"utf8", b"us-ascii"}:
        raise _malformed("is JSON but no UTF-8")
    return BodyKind.JSON


def _malformed(what: str) -> ExchangeFailed:
    return ExchangeFailed("upstream-malformed", f"Dataverse's answer {what}", stage=Stage.ANSWERING)

"""What a caller says about time and about trying again, and the ids that Dataverse keeps.

None of it is judged: no decision depends on it.

    Broker-Timeout: 20       seconds until an answer must have begun, waiting and retries included
    Broker-Retry: none       one attempt, whatever comes of it
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from app.errors import Unreadable

if TYPE_CHECKING:
    from app.dataverse.message import Headers

DEFAULT_TIMEOUT_S: Final = 8.0
"""For waiting and pauses; an attempt under way may take as long as Dataverse's own limit.

Microsoft's Python client gives a read ten seconds (dataverse-reference 9.1): whoever waits longer
than its caller works for nobody.
"""

TIMEOUT_MOST_S: Final = 3600.0

_SECONDS: Final = re.compile(rb"[0-9]{1,5}(?:\.[0-9]{1,3})?")
_SAFE_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")

_CLIENT_ID: Final = b"x-ms-client-request-id"
_MEANT: Final = frozenset({b"broker-timeout", b"broker-retry", b"traceparent", _CLIENT_ID})


class Wishes(msgspec.Struct, frozen=True):
    timeout_s: float | None = None
    """None: the caller named none."""
    retries: bool = True
    tracing: Headers = ()
    """Headers that differ with each request, and travel."""

    def remaining_s(self, elapsed_s: float) -> float:
        """Until waiting must end."""
        return (DEFAULT_TIMEOUT_S if self.timeout_s is None else self.timeout_s) - elapsed_s

    def attempt_s(self, elapsed_s: float, most_s: float) -> float:
        """How long an attempt that begins now may take to its answer's head."""
        return most_s if self.timeout_s is None else min(most_s, self.timeout_s - elapsed_s)


def read_wishes(headers: Headers, request_id: str) -> Wishes:
    """Names of headers in lower case. Raises `Unreadable`.

    Dataverse keeps the caller's id of the request where it sends one, and the broker's where it
    does not. A caller's may stand twice, so what leads from one log to the other for certain is
    Dataverse's own id, which is on the record.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _MEANT:
            if name in found and name.startswith(b"broker-"):
                raise Unreadable(
                    "duplicate-header", f"the header {name.decode('ascii')} is given twice"
                )
            found[name] = value
    if not found:
        return Wishes(tracing=((_CLIENT_ID, request_id.encode("ascii")),))
    return Wishes(
        timeout_s=_timeout(found.get(b"broker-timeout")),
        retries=_retries(found.get(b"broker-retry")),
        tracing=_tracing(found, request_id),
    )


def _timeout(value: bytes | None) -> float | None:
    if value is None:
        return None
    text = value.strip(b" \t")
    if _SECONDS.fullmatch(text) is None or float(text) == 0.0:
        raise Unreadable("bad-header", "Broker-Timeout is a number of seconds above 0")
    return min(float(text), TIMEOUT_MOST_S)


def _retries(value: bytes | None) -> bool:
    if value is None:
        return True
    if value.strip(b" \t").lower() != b"none":
        raise Unreadable("bad-header", "Broker-Retry is none, or is not sent")
    return False


def _tracing(found: dict[bytes, bytes], request_id: str) -> Headers:
    client_id = found.get(_CLIENT_ID, b"")
    if _SAFE_ID.fullmatch(client_id) is None:
        client_id = request_id.encode("ascii")
    parent = found.get(b"traceparent")
    if parent is None or _SAFE_ID.fullmatch(parent) is None:
        return ((_CLIENT_ID, client_id),)
    return ((_CLIENT_ID, client_id), (b"traceparent", parent))

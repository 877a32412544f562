"""An Entra on this machine over plain http, for tests: MSAL itself takes no URL but https.

Nothing leaves the machine on loopback, so nothing is sent in the clear. MSAL is told https, and
its requests go to the same host and port without TLS.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from app.tokens.answers import malformed
from app.tokens.wire import Unanswered, Wire

_PLAIN, _SECURE = "http://", "https://"


@dataclass(frozen=True, slots=True)
class Relayed:
    """As much of a `requests.Response` as MSAL looks at. Its text may hold a token."""

    status_code: int
    text: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)

    def raise_for_status(self) -> None:
        """Nothing to raise: what is no 200 does not get as far as this."""


class LoopbackWire:
    """MSAL's `http_client` for an authority that `is_plain_loopback`."""

    def __init__(self, authority: str) -> None:
        origin = urlsplit(authority).netloc
        self._plain = f"{_PLAIN}{origin}/"
        self._secure = f"{_SECURE}{origin}/"
        self._wire = Wire(None)

    def get(self, url: str, **options: Any) -> Relayed:
        return self._relayed(self._wire.get(self._on_the_wire(url), **options).content)

    def post(self, url: str, **options: Any) -> Relayed:
        return self._relayed(self._wire.post(self._on_the_wire(url), **options).content)

    def close(self) -> None:
        self._wire.close()

    def _on_the_wire(self, url: str) -> str:
        if not url.startswith(self._secure):
            raise Unanswered(malformed("it names an endpoint on another host"))
        return self._plain + url[len(self._secure) :]

    def _relayed(self, content: bytes) -> Relayed:
        """With this host's own addresses as MSAL takes them."""
        answer: dict[str, Any] = json.loads(content)
        for name, value in answer.items():
            if isinstance(value, str) and value.startswith(self._plain):
                answer[name] = self._secure + value[len(self._plain) :]
        return Relayed(200, json.dumps(answer), {})


def is_plain_loopback(authority: str) -> bool:
    """Whether it is http to this machine: the one place where https is not asked for."""
    host = urlsplit(authority).hostname or ""
    if not authority.startswith(_PLAIN):
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

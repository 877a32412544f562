"""How often an address may fail to prove who it is, before it is told to wait."""

from __future__ import annotations

import time
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

from cachetools import TTLCache

from app.errors import Limited

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES_PER_MINUTE: Final = 60
"""A service with an expired key and a retry each second stays below; a scanner does not."""

ADDRESSES_MAX: Final = 10_000
"""Those that failed first are forgotten first: they begin anew, which is all they gain."""

WINDOW_S: Final = 60.0


class _Failures:
    __slots__ = ("count", "ends_at")

    def __init__(self, ends_at: float) -> None:
        self.count = 0
        self.ends_at = ends_at


class Strangers:
    """Counts failures, and turns away only who fails: a good credential is good from anywhere.

    Behind an ingress a whole cluster has one address. If a limited address were not listened to
    at all, one service with an expired key would keep all the others out.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._by_address: TTLCache[str, _Failures] = TTLCache(
            ADDRESSES_MAX, WINDOW_S, timer=monotonic
        )

    def failed(self, address: str | None) -> None:
        """Count one more failure. Raises `Limited` where that was one too many."""
        site = _site(address)
        failures = self._by_address.get(site)
        if failures is None:
            failures = self._by_address[site] = _Failures(self._monotonic() + WINDOW_S)
        if failures.count >= FAILURES_PER_MINUTE:
            raise self._limited(failures)
        failures.count += 1

    def _limited(self, failures: _Failures) -> Limited:
        left = failures.ends_at - self._monotonic()
        return Limited(
            "rate-limited",
            "too many requests from this address had no credential that the broker knows",
            retry_after_s=max(1, int(left) + 1),
        )


def _site(address: str | None) -> str:
    """An IPv6 network of 64 bits is one machine's, with as many addresses as it likes."""
    if address is None or ":" not in address:
        return address or ""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed) >> 64 << 64, 64)))
    return address

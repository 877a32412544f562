"""A token cache for MSAL that keeps nothing: the broker's own is the only place for tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msal

if TYPE_CHECKING:
    from collections.abc import Iterator


class ForgetfulCache(msal.TokenCache):  # type: ignore[misc] # msal has no types
    """With MSAL's own cache in between, a renewal ahead of expiry would get the old token back,
    and an invalidated token would return.
    """

    def add(self, event: dict[str, Any], now: float | None = None) -> None:
        """Keep nothing."""

    def search(self, *_args: Any, **_query: Any) -> Iterator[dict[str, Any]]:
        return iter(())

    def find(self, *_args: Any, **_query: Any) -> list[dict[str, Any]]:
        return []

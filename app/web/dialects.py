"""The addresses at which other people's protocols expect their token endpoints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from app.web.discovery import INSTANCE, JWKS, OPENID_CONFIGURATION, TENANT_CONFIGURATION

if TYPE_CHECKING:
    from app.web.asgi import App

_TOKEN: Final = re.compile(rb"(?:/[A-Za-z0-9][A-Za-z0-9.-]{0,252})?/oauth2/(?:v2\.0/)?token")


class Dialects:
    """The app for a raw path, or None: tried after the broker's own addresses."""

    def __init__(self, *, oauth: App, managed_identity: App, discovery: App) -> None:
        self._oauth = oauth
        self._discovery = discovery
        self._exact: dict[bytes, App] = {
            b"/msi/token": managed_identity,
            b"/oauth2/v2.0/token": oauth,
            JWKS: discovery,
            OPENID_CONFIGURATION: discovery,
            INSTANCE: discovery,
        }

    def __call__(self, path: bytes) -> App | None:
        found = self._exact.get(path)
        if found is not None:
            return found
        if _TOKEN.fullmatch(path):
            return self._oauth
        if TENANT_CONFIGURATION.fullmatch(path):
            return self._discovery
        return None

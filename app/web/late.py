"""An app that is made when somebody asks for it: most brokers are never asked for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.web.asgi import App, Receive, Scope, Send


class Late:
    """Makes the app for the first request, in a thread: others are answered meanwhile."""

    def __init__(self, make: Callable[[], App]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._app: App | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._app or await self._made())(scope, receive, send)

    async def _made(self) -> App:
        async with self._making:
            if self._app is None:
                self._app = await asyncio.to_thread(self._make)
            return self._app

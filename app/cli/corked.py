"""A transport that lets the head of an answer and the first of its body leave in one packet.

uvicorn writes them one after the other, and uvloop hands each to the system at once: two calls and
two packets, where most answers need one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

JOINED_BYTES: Final = 16 * 1024
"""Up to this size copying is cheaper than a vector."""


class Corked:
    """Stands before the connection's transport, and is that transport in all but `write`."""

    __slots__ = ("_held", "_holding", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._holding = False
        self._held = b""

    def hold(self) -> None:
        """The next write waits for the one after it, or for the loop's next round."""
        self._holding = True

    def write(self, data: bytes) -> None:
        if self._holding:
            self._holding = False
            self._held += data
            self._loop.call_soon(self._let_go)
            return
        held = self._held
        if not held:
            self._transport.write(data)
            return
        self._held = b""
        if len(data) <= JOINED_BYTES:
            self._transport.write(held + data)
        else:
            self._transport.writelines((held, data))

    def close(self) -> None:
        self._let_go()
        self._transport.close()

    def _let_go(self) -> None:
        held, self._held = self._held, b""
        if held:
            self._transport.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

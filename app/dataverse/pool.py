"""The connections to one environment: lent out, taken back, and a bounded line before them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from app.dataverse.failures import UpstreamBusy

if TYPE_CHECKING:
    from app.dataverse.connection import Connection

Connect = Callable[["Pool"], Awaitable["Connection"]]


class Pool:
    """At most `connections` open at a time, at most `waiting` in line; the rest are refused.

    The connection used last is used next, so that a quiet environment keeps few of them.
    """

    def __init__(self, connect: Connect, *, host: str, connections: int, waiting: int) -> None:
        self._connect = connect
        self._host = host
        self._limit = connections
        self._waiting_limit = waiting
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._connecting = 0
        # What somebody in line gets: a connection, or None for leave to open one.
        self._line: deque[asyncio.Future[Connection | None]] = deque()
        self._closing = False

    @property
    def open_connections(self) -> int:
        return len(self._all)

    @property
    def idle_connections(self) -> int:
        return len(self._idle)

    @property
    def waiting_requests(self) -> int:
        return len(self._line)

    async def lend(self, *, timeout_s: float, fresh: bool = False) -> Connection:
        """A connection for one exchange; `fresh` wants one that never carried any.

        Raises `UpstreamBusy` when the line is full or does not move in time, and what
        opening a connection raises.
        """
        if fresh:
            self.close_idle()
        due = asyncio.get_running_loop().time() + timeout_s
        while True:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_fit():
                    return connection
                connection.abort()
            if len(self._all) + self._connecting < self._limit:
                return await self._open()
            if len(self._line) >= self._waiting_limit:
                raise UpstreamBusy(self._host)
            turn = await self._stand_in_line(due)
            if turn is None:
                return await self._open(reserved=True)
            if turn.is_fit():
                return turn
            turn.abort()

    async def _stand_in_line(self, due: float) -> Connection | None:
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout_at(due):
                return await turn
        except BaseException as e:
            if turn.done() and not turn.cancelled():
                # Our turn had come in the same moment: the next one takes it.
                self._pass_on(turn.result())
            elif turn in self._line:
                self._line.remove(turn)
            if isinstance(e, TimeoutError):
                raise UpstreamBusy(self._host) from None
            raise

    async def _open(self, *, reserved: bool = False) -> Connection:
        if not reserved:
            self._connecting += 1
        try:
            connection = await self._connect(self)
        except BaseException:
            self._connecting -= 1
            self._next()
            raise
        self._connecting -= 1
        self._all.add(connection)
        if connection.closed:
            self.lost(connection)
        return connection

    # ------------------------------------------------------- a connection's word

    def given_back(self, connection: Connection) -> None:
        if self._closing:
            connection.abort()
        else:
            self._pass_on(connection)

    def lost(self, connection: Connection) -> None:
        if connection in self._all:
            self._all.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._next()

    def _pass_on(self, connection: Connection | None) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        if connection is None:
            self._connecting -= 1
        elif not connection.closed:
            self._idle.append(connection)

    def _next(self) -> None:
        """A place has become free."""
        if self._line and len(self._all) + self._connecting < self._limit:
            self._connecting += 1
            self._pass_on(None)

    # ------------------------------------------------------------------ closing

    def close_idle(self) -> None:
        for connection in self._idle.copy():
            connection.abort()

    async def aclose(self, *, grace_s: float) -> None:
        """Wait for what is under way, `grace_s` at most, and close everything."""
        self._closing = True
        self.close_idle()
        if self._all:
            await asyncio.wait([c.gone for c in self._all], timeout=grace_s)
        everyone = list(self._all)
        for connection in everyone:
            connection.abort()
        if everyone:
            await asyncio.wait([c.gone for c in everyone], timeout=1.0)

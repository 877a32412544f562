"""Where blocking calls run: a few threads of this stage's own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

THREADS = 8
"""At once. A token is asked for once an hour and key, so this bounds only bad days."""


class Workers:
    """Runs functions in threads, a thread a call.

    No executor: its threads are waited for when the process ends, and a slow Entra would hold up
    a shutdown longer than an orchestrator waits. Calls are rare enough to start a thread each.
    """

    def __init__(self, threads: int = THREADS) -> None:
        self._free = asyncio.Semaphore(threads)

    async def run(self, function: Callable[[], T], *, timeout_s: float) -> T:
        """Raises `TimeoutError` when the function takes longer; its thread then ends by itself."""
        loop = asyncio.get_running_loop()
        async with self._free:
            done: asyncio.Future[T] = loop.create_future()

            def settle(result: T | None, error: BaseException | None) -> None:
                if done.done():
                    return
                if error is not None:
                    done.set_exception(error)
                else:
                    done.set_result(result)  # type: ignore[arg-type] # T may itself be None

            def work() -> None:
                result: T | None = None
                error: BaseException | None = None
                try:
                    result = function()
                except BaseException as raised:  # noqa: BLE001 - it is raised where it is awaited
                    error = raised
                try:
                    loop.call_soon_threadsafe(settle, result, error)
                except RuntimeError:
                    return  # The loop has closed: nobody waits.

            threading.Thread(target=work, name="tokens", daemon=True).start()
            async with asyncio.timeout(timeout_s):
                return await done

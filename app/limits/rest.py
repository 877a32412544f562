"""How what runs beside the requests waits for its next turn."""

from __future__ import annotations

import asyncio
import contextlib


async def rest(seconds: float, woken_by: asyncio.Event | None = None) -> None:
    """Wait so long, or until the event is set.

    Raises `CancelledError` also where the task was told to end before: a cancellation that comes in
    the moment of an answer from Redis can be lost on its way up (Python 3.11), but not in the count
    of those that were asked for. Without this the task would go on, and its end be waited for in
    vain.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    if woken_by is None:
        await asyncio.sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await woken_by.wait()

"""Reading what takes long, while everybody else is answered.

Bodies of 16 MiB are allowed, and reading one takes Python seconds. It is read in a thread, which
has the interpreter in turns of milliseconds with the event loop; one at a time, so that a few
callers with large bodies are not all that runs.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LARGE_BYTES: Final = 128 * 1024
"""Some 20 ms of reading, at the worst; below, a thread would cost more than it saves."""

_readers: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-bodies")


async def aside(work: Callable[[], T], body: bytes | None) -> T:
    """What `work` gives or raises; it must be pure. At once where `body` is small."""
    if body is None or len(body) <= LARGE_BYTES:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_readers, work)

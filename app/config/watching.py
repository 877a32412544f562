"""Files that change under a running broker: noticed, loaded whole, handed on, or refused whole."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

from app.config.loading import yaml_files
from app.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.config.loaded import Loaded

POLL_S: Final = 2.0
"""Between two looks. A look is one stat a file, some microseconds.

Polling, because notification does not work where configurations live: a ConfigMap is a chain of
links whose target is exchanged, which inotify on the file never tells, and network file systems
tell nothing at all. Kubernetes itself takes up to a minute to bring a change here.
"""

RETRY_S: Final = 15.0
"""After a refusal the cause may lie where no watched file tells of it: a vault, a new file."""

REFRESH_S: Final = 900.0
"""Everything is read again so often, for secrets in vaults, which change without a file."""


class OnLoaded(Protocol):
    """Swaps a configuration in. Raises `BrokerError` where it cannot be used after all."""

    async def __call__(self, loaded: Loaded) -> None: ...


class OnFailed(Protocol):
    """Told once for each new reason why the files are not what counts."""

    async def __call__(self, error: BrokerError) -> None: ...


class Watcher:
    """Runs until it is cancelled. The last good configuration stays whatever happens."""

    def __init__(
        self,
        path: Path,
        load: Callable[[], Loaded],
        *,
        on_loaded: OnLoaded,
        on_failed: OnFailed,
        poll_s: float = POLL_S,
        retry_s: float = RETRY_S,
        refresh_s: float = REFRESH_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._load = load
        self._on_loaded = on_loaded
        self._on_failed = on_failed
        self._poll_s = poll_s
        self._retry_s = retry_s
        self._refresh_s = refresh_s
        self._monotonic = monotonic

    async def run(self, loaded: Loaded) -> None:
        """Watch, `loaded` being what counts now."""
        version = loaded.version
        files = loaded.files
        failure: str | None = None
        # Nothing is known to be as it was loaded: what changed since then must be noticed.
        seen: _State | None = None
        before: _State | None = None
        due = self._monotonic() + self._refresh_s
        while True:
            await asyncio.sleep(self._poll_s)
            state = await asyncio.to_thread(_look, self._path, files)
            settled = state == before
            before = state
            # A file that is still being written would be refused for its missing half, so a
            # change counts once two looks see the same.
            if not settled or (state == seen and self._monotonic() < due):
                continue
            seen = state
            try:
                loaded = await asyncio.to_thread(self._load)
                files = loaded.files
                if loaded.version != version or failure is not None:
                    await self._on_loaded(loaded)
            except BrokerError as error:
                due = self._monotonic() + self._retry_s
                if error.detail != failure:
                    failure = error.detail
                    await self._on_failed(error)
            else:
                due = self._monotonic() + self._refresh_s
                version, failure = loaded.version, None


_State = tuple[tuple[str, tuple[int, ...] | None], ...]
"""Of each file device, inode, size and time of change, behind all links; None: not there."""


def _look(path: Path, files: tuple[Path, ...]) -> _State:
    try:
        # Absolute, as `load` names them.
        yaml = yaml_files(path.absolute())
    except OSError:
        yaml = []
    return tuple((str(file), _stat(file)) for file in dict.fromkeys([*yaml, *files]))


def _stat(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

"""A change of files is swapped in whole, or refused and the last good one stays."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.config.loading import load
from app.config.watching import Watcher
from app.errors import BrokerError, Misconfigured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from app.config.loaded import Loaded

pytestmark = pytest.mark.anyio

TEXT = """\
public_url: https://broker.example
applications:
  erp:
    tenant_id: contoso.example
    client_id: 5c2e9d10-0000-0000-0000-000000000001
    credentials: [{client_secret: {file: erp.secret}}]
callers:
  CALLER: {}
"""


def write(folder: Path, caller: str = "first", secret: str = "one") -> None:
    (folder / "erp.secret").write_text(secret)
    (folder / "broker.yaml").write_text(TEXT.replace("CALLER", caller))


class Told:
    """What a watcher said, and a swap that can refuse."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.failed: list[str] = []
        self.refuse = False
        self._told = asyncio.Event()

    async def on_loaded(self, loaded: Loaded) -> None:
        if self.refuse:
            raise Misconfigured("policy-invalid", "columns not known: nmae")
        self.loaded.append(",".join(loaded.configuration.callers))
        self._told.set()

    async def on_failed(self, error: BrokerError) -> None:
        self.failed.append(error.code)
        self._told.set()

    async def until(self, what: Callable[[Told], bool]) -> None:
        async with asyncio.timeout(5):
            while not what(self):
                self._told.clear()
                await self._told.wait()


@asynccontextmanager
async def watching(
    path: Path, *, retry_s: float = 60.0, refresh_s: float = 60.0
) -> AsyncIterator[Told]:
    told = Told()
    read = partial(load, path, environ={})
    watcher = Watcher(
        path,
        read,
        on_loaded=told.on_loaded,
        on_failed=told.on_failed,
        poll_s=0.01,
        retry_s=retry_s,
        refresh_s=refresh_s,
    )
    task = asyncio.create_task(watcher.run(read()))
    try:
        yield told
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_changed_file_is_swapped_in_and_a_touched_one_is_not(tmp_path: Path) -> None:
    write(tmp_path)
    async with watching(tmp_path / "broker.yaml") as told:
        (tmp_path / "broker.yaml").touch()
        await asyncio.sleep(0.1)
        assert told.loaded == []
        write(tmp_path, "second")
        await told.until(lambda t: t.loaded == ["second"])
    assert told.failed == []


async def test_a_changed_secret_is_a_change(tmp_path: Path) -> None:
    write(tmp_path)
    async with watching(tmp_path) as told:
        write(tmp_path, secret="two")
        await told.until(lambda t: t.loaded == ["first"])


async def test_a_new_file_in_the_folder_is_a_change(tmp_path: Path) -> None:
    write(tmp_path)
    async with watching(tmp_path) as told:
        (tmp_path / "more.yaml").write_text("callers: {second: {}}\n")
        await told.until(lambda t: t.loaded == ["first,second"])


async def test_a_change_made_before_the_watch_began_is_noticed(tmp_path: Path) -> None:
    write(tmp_path)
    stale = load(tmp_path, environ={})
    write(tmp_path, "second")
    told = Told()
    watcher = Watcher(
        tmp_path,
        partial(load, tmp_path, environ={}),
        on_loaded=told.on_loaded,
        on_failed=told.on_failed,
        poll_s=0.01,
    )
    task = asyncio.create_task(watcher.run(stale))
    await told.until(lambda t: t.loaded == ["second"])
    task.cancel()


async def test_what_does_not_load_is_told_once_and_the_way_back_is_told_too(
    tmp_path: Path,
) -> None:
    write(tmp_path)
    async with watching(tmp_path, retry_s=0.02) as told:
        (tmp_path / "broker.yaml").write_text("calers: {}\n")
        await told.until(lambda t: t.failed == ["configuration-invalid"])
        await asyncio.sleep(0.1)
        assert told.loaded == []
        write(tmp_path)  # the very same as before
        await told.until(lambda t: t.loaded == ["first"])
        assert told.failed == ["configuration-invalid"]


async def test_a_removed_file_changes_nothing_but_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    async with watching(tmp_path / "broker.yaml") as told:
        (tmp_path / "broker.yaml").unlink()
        await told.until(lambda t: t.failed == ["configuration-invalid"])
        assert told.loaded == []


async def test_a_swap_that_refuses_is_a_refusal_and_is_tried_again(tmp_path: Path) -> None:
    write(tmp_path)
    async with watching(tmp_path, retry_s=0.02) as told:
        told.refuse = True
        write(tmp_path, "second")
        await told.until(lambda t: t.failed == ["policy-invalid"])
        told.refuse = False
        await told.until(lambda t: t.loaded == ["second"])


async def test_an_atomic_exchange_of_links_is_one_change(tmp_path: Path) -> None:
    """As Kubernetes updates a mounted ConfigMap."""
    for version, caller in [("..1", "first"), ("..2", "second")]:
        (tmp_path / version).mkdir()
        write(tmp_path / version, caller)
    (tmp_path / "..data").symlink_to("..1")
    for name in ("broker.yaml", "erp.secret"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    async with watching(tmp_path) as told:
        (tmp_path / "..tmp").symlink_to("..2")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        await told.until(lambda t: t.loaded == ["second"])
        await asyncio.sleep(0.05)
    assert (told.loaded, told.failed) == (["second"], [])


async def test_a_half_written_file_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path)
    whole = TEXT.replace("CALLER", "second")
    async with watching(tmp_path) as told:
        with (tmp_path / "broker.yaml").open("w") as file:
            for character in whole:
                file.write(character)
                file.flush()
                await asyncio.sleep(0.001)
        await told.until(lambda t: t.loaded == ["second"])
    assert told.failed == []


async def test_what_no_file_tells_of_is_read_again_in_time(tmp_path: Path) -> None:
    """A vault's secret changes without a file."""
    write(tmp_path)
    environ: dict[str, str] = {"ERP": "one"}
    (tmp_path / "broker.yaml").write_text(
        TEXT.replace("{file: erp.secret}", "{env: ERP}").replace("CALLER", "first")
    )
    told = Told()
    read = partial(load, tmp_path, environ=environ)
    watcher = Watcher(
        tmp_path,
        read,
        on_loaded=told.on_loaded,
        on_failed=told.on_failed,
        poll_s=0.01,
        refresh_s=0.05,
    )
    task = asyncio.create_task(watcher.run(read()))
    await asyncio.sleep(0.1)
    assert told.loaded == []
    environ["ERP"] = "two"
    await told.until(lambda t: t.loaded == ["first"])
    task.cancel()

"""What counts now and the ways out, kept up to date: configuration, schemas, connections."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from app.errors import BrokerError, Misconfigured
from app.path.standing import Standing, stand
from app.schema.building import SchemaUnreadable
from app.schema.csdl import CsdlReader, read_csdl
from app.telemetry.logs import where_raised

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from app.config import model
    from app.config.loaded import Loaded
    from app.dataverse.client import UpstreamClient
    from app.schema.model import Schema

log = structlog.get_logger()

REFRESH_S = 900.0
"""How old a schema gets before it is fetched again, unasked."""
ASK_S = 60.0
"""Unknown names make the schema be fetched again; at most this often."""
ASK_WITHIN_S = 15.0
"""How long a request waits for that; then it is judged by the schema that is there."""
RETRY_FIRST_S = 0.5
RETRY_LAST_S = 10.0
"""Between tries to fetch one; each time twice as long."""
FIRST_SCHEMA_S = 120.0
"""Readiness waits so long for the first schemas: one environment that is gone must not keep
the others from being served.
"""
GRACE_S = 60.0
"""What is under way on connections that are not used any more has so long to come to its end."""
FEED_BYTES = 16 * 1024
"""Of $metadata, read in one go: some milliseconds, between which others get the loop."""

DISK_BYTES = 64 * 1024
"""The same of a file: four times as much, since each piece is a thread's errand."""


class Metadata(Protocol):
    """What an environment says of itself."""

    async def csdl(self) -> bytes: ...

    async def table_ids(self) -> Mapping[str, str]:
        """MetadataId (lower case) to logical name."""
        ...


class Shelf(Protocol):
    """Where schemas outlive the process."""

    async def load(self, environment: str, url: str) -> Schema | None: ...

    async def store(self, environment: str, url: str, schema: Schema) -> None: ...


@dataclass(slots=True)
class _Live:
    """A schema that is fetched, and when. A new URL is a new one of these."""

    url: str
    keeper: asyncio.Task[None] | None = None
    fetch: asyncio.Task[None] | None = None
    asked: float = float("-inf")
    failure: str | None = None

    def tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self.keeper, self.fetch) if task is not None]


@dataclass(frozen=True, slots=True)
class _Pinned:
    digest: bytes
    schema: Schema = field(repr=False)


class World:
    """Swaps a new `Standing` in when configuration or schema change; requests see one whole.

    `await reload` it once before it is asked anything.
    """

    def __init__(
        self,
        *,
        connect: Callable[[model.Environment], UpstreamClient],
        metadata: Callable[[str, model.Environment, UpstreamClient], Metadata],
        shelf: Shelf,
    ) -> None:
        self._connect = connect
        self._metadata = metadata
        self._shelf = shelf
        self._upstreams: dict[str, tuple[model.Environment, UpstreamClient]] = {}
        self._schemas: dict[str, Schema] = {}
        self._live: dict[str, _Live] = {}
        self._pinned: dict[Path, _Pinned] = {}
        self._retired: set[asyncio.Task[None]] = set()
        self._standing: Standing | None = None
        self._complete_once = False
        self._began = time.monotonic()

    # ------------------------------------------------------------ asked by the path

    @property
    def standing(self) -> Standing:
        assert self._standing is not None, "nothing was loaded yet"
        return self._standing

    def upstream(self, environment: str) -> UpstreamClient:
        return self._upstreams[environment][1]

    async def refresh_schema(self, environment: str) -> bool:
        """Whether a newer schema was found; asks at most once a minute."""
        live = self._live.get(environment)
        if live is None:
            return False
        before = self._schemas.get(environment)
        under_way = live.fetch is not None and not live.fetch.done()
        if not under_way and time.monotonic() - live.asked < ASK_S:
            return False
        # Others may wait for the same one: whoever hangs up must not end it.
        await asyncio.wait([self._fetching(environment, live)], timeout=ASK_WITHIN_S)
        after = self._schemas.get(environment)
        return after is not None and (before is None or after.version != before.version)

    def schema_failure(self, environment: str) -> str | None:
        """Why the newest try to fetch a schema failed; None where it did not."""
        live = self._live.get(environment)
        return None if live is None else live.failure

    def waited_long_enough(self) -> bool:
        """Whether a schema that is still missing keeps this process from being ready no more.

        Only the first schemas are waited for: an environment that moves later limps alone, and
        must not drain every replica.
        """
        if not self._complete_once:
            self._complete_once = all(p.schema is not None for p in self.standing.places.values())
        return self._complete_once or time.monotonic() - self._began > FIRST_SCHEMA_S

    # ------------------------------------------------------------- configuration

    async def reload(self, loaded: Loaded) -> None:
        """Raises `Misconfigured`, and changes nothing then. One at a time."""
        environments = loaded.configuration.environments
        pinned = {
            config.schema_.file: await self._read_pinned(config.schema_.file)
            for config in environments.values()
            if config.schema_ != "live"
        }
        kept = {
            name: await self._shelf.load(name, config.url)
            for name, config in environments.items()
            if config.schema_ == "live" and not self._lives(name, config)
        }
        # From here on without a pause, so that a schema that arrives comes before or after.
        schemas: dict[str, Schema] = {}
        for name, config in environments.items():
            found = (
                pinned[config.schema_.file].schema
                if config.schema_ != "live"
                else (self._schemas.get(name) if self._lives(name, config) else kept.get(name))
            )
            if found is not None:
                schemas[name] = found
        standing = stand(loaded, schemas)
        clients = {
            name: self._connect(config)
            for name, config in environments.items()
            if name not in self._upstreams or self._upstreams[name][0] != config
        }
        self._pinned, self._schemas = pinned, schemas
        self._follow(environments)
        self._reconnect(environments, clients)
        self._standing = standing
        self._tell_problems()
        self.start()

    def _lives(self, name: str, config: model.Environment) -> bool:
        live = self._live.get(name)
        return live is not None and live.url == config.url

    async def _read_pinned(self, path: Path) -> _Pinned:
        """Read again only where the file has changed: its thousands of lines take a second."""
        try:
            digest = await asyncio.to_thread(_digest, path)
            known = self._pinned.get(path)
            if known is not None and known.digest == digest:
                return known
            return _Pinned(digest, await _read_file(path))
        except (OSError, SchemaUnreadable) as error:
            raise Misconfigured("schema-invalid", f"{path}: {error}") from error

    def _follow(self, environments: Mapping[str, model.Environment]) -> None:
        """Live schemas of environments that are there, at the URL that they have now."""
        before, self._live = self._live, {}
        for name, config in environments.items():
            live = before.get(name)
            if config.schema_ == "live":
                keeps = live is not None and live.url == config.url
                self._live[name] = live if keeps and live is not None else _Live(config.url)
        for name, live in before.items():
            if self._live.get(name) is not live:
                for task in live.tasks():
                    task.cancel()

    def _reconnect(
        self,
        environments: Mapping[str, model.Environment],
        clients: Mapping[str, UpstreamClient],
    ) -> None:
        for name in list(self._upstreams):
            if name not in environments or name in clients:
                self._retire(self._upstreams.pop(name)[1])
        for name, client in clients.items():
            self._upstreams[name] = (environments[name], client)

    def _retire(self, client: UpstreamClient) -> None:
        task = asyncio.get_running_loop().create_task(client.aclose(grace_s=GRACE_S))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    # ------------------------------------------------------------------ schemas

    def start(self) -> None:
        """Keep the live schemas fresh, on the running loop."""
        loop = asyncio.get_running_loop()
        for name, live in self._live.items():
            if live.keeper is None or live.keeper.done():
                live.keeper = loop.create_task(self._keep(name, live))

    async def _keep(self, environment: str, live: _Live) -> None:
        retry_s = RETRY_FIRST_S
        while True:
            await asyncio.wait([self._fetching(environment, live)])
            if live.failure is None:
                retry_s = RETRY_FIRST_S
                await asyncio.sleep(REFRESH_S)
            else:
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, RETRY_LAST_S)

    def _fetching(self, environment: str, live: _Live) -> asyncio.Task[None]:
        """The fetch that is under way, or a new one."""
        if live.fetch is None or live.fetch.done():
            live.asked = time.monotonic()
            live.fetch = asyncio.get_running_loop().create_task(self._fetch(environment, live))
        return live.fetch

    async def _fetch(self, environment: str, live: _Live) -> None:
        config, client = self._upstreams[environment]
        source = self._metadata(environment, config, client)
        try:
            schema = await read_in_pieces(await source.csdl())
            schema = schema.with_metadata_ids(await source.table_ids())
        except (BrokerError, SchemaUnreadable) as error:
            self._failed(environment, live, getattr(error, "detail", str(error)))
            return
        except Exception as error:  # noqa: BLE001 - or nobody would ever ask again
            log.error(  # noqa: TRY400 - a traceback quotes messages
                "schema.fetch_failed",
                environment=environment,
                error=type(error).__name__,
                where=where_raised(error),
            )
            self._failed(environment, live, "what it says of itself cannot be read")
            return
        if self._live.get(environment) is not live:
            return
        live.failure = None
        if self._adopt(environment, schema):
            await self._shelf.store(environment, live.url, schema)

    def _failed(self, environment: str, live: _Live, why: str) -> None:
        if live.failure != why:
            log.warning("schema.failed", environment=environment, error=why)
        live.failure = why

    def _adopt(self, environment: str, schema: Schema) -> bool:
        """Whether it differs from the one that was there."""
        before = self._schemas.get(environment)
        if (
            before is not None
            and before.version == schema.version
            and before.metadata_ids == schema.metadata_ids
        ):
            return False
        self._schemas[environment] = schema
        self._standing = stand(self.standing.loaded, self._schemas)
        log.info(
            "schema.loaded",
            environment=environment,
            version=schema.version,
            tables=len(schema.sets),
        )
        self._tell_problems()
        return True

    def _tell_problems(self) -> None:
        for problem in self.standing.problems:
            log.warning(
                "grant.closed", place=".".join(map(str, problem.place)), problem=problem.message
            )

    async def aclose(self) -> None:
        tasks = [task for live in self._live.values() for task in live.tasks()]
        tasks += self._retired
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(c.aclose() for _, c in self._upstreams.values()))


async def read_in_pieces(document: bytes) -> Schema:
    """Read CSDL and let others have the loop in between. Raises `SchemaUnreadable`."""
    reader = CsdlReader()
    for start in range(0, len(document), FEED_BYTES):
        reader.feed(document[start : start + FEED_BYTES])
        await asyncio.sleep(0)
    return reader.finish()


async def _read_file(path: Path) -> Schema:
    """Never whole in memory: what a thread has held once stays with the process, 4 MB of it."""
    reader = CsdlReader()
    with await asyncio.to_thread(path.open, "rb", buffering=0) as file:
        while piece := await asyncio.to_thread(file.read, DISK_BYTES):
            reader.feed(piece)
    return reader.finish()


def _digest(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, hashlib.sha256).digest()


def read_schema_file(path: Path) -> Schema:
    """A pinned schema, in one go. Raises `Misconfigured`."""
    try:
        return read_csdl(path.read_bytes())
    except (OSError, SchemaUnreadable) as error:
        raise Misconfigured("schema-invalid", f"{path}: {error}") from error

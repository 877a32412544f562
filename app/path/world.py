"""What counts now and the ways out, kept up to date: configuration, schemas, connections."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import structlog

from app.errors import BrokerError, Misconfigured
from app.path.standing import Standing, stand
from app.schema.csdl import CsdlReader, SchemaUnreadable, read_csdl

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
RETRY_S = 10.0
FIRST_SCHEMA_S = 120.0
"""Readiness waits so long for the first schemas: one environment that is gone must not keep
the others from being served.
"""
FEED_BYTES = 64 * 1024


class Metadata(Protocol):
    """What an environment says of itself."""

    async def csdl(self) -> bytes: ...

    async def table_ids(self) -> Mapping[str, str]:
        """MetadataId (lower case) to logical name."""
        ...


class Shelf(Protocol):
    """Where schemas outlive the process."""

    def load(self, environment: str) -> Schema | None: ...

    def store(self, environment: str, schema: Schema) -> None: ...


@dataclass(slots=True)
class _Live:
    """A schema that is fetched, and when."""

    task: asyncio.Task[None] | None = None
    asked: float = float("-inf")
    failure: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class World:
    """Swaps a new `Standing` in when configuration or schema change; requests see one whole."""

    def __init__(
        self,
        loaded: Loaded,
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
        self._retired: set[asyncio.Task[None]] = set()
        self._standing = self._prepare(loaded)
        self._began = time.monotonic()

    # ------------------------------------------------------------ asked by the path

    @property
    def standing(self) -> Standing:
        return self._standing

    def upstream(self, environment: str) -> UpstreamClient:
        return self._upstreams[environment][1]

    async def refresh_schema(self, environment: str) -> bool:
        """Whether a newer schema was found; asks at most once a minute."""
        live = self._live.get(environment)
        if live is None or time.monotonic() - live.asked < ASK_S:
            return False
        before = self._schemas.get(environment)
        await self._fetch(environment, live)
        after = self._schemas.get(environment)
        return after is not None and (before is None or after.version != before.version)

    def schema_failure(self, environment: str) -> str | None:
        """Why the newest try to fetch a schema failed; None where it did not."""
        live = self._live.get(environment)
        return None if live is None else live.failure

    def waited_long_enough(self) -> bool:
        """Whether a schema that is still missing keeps this process from being ready no more."""
        return time.monotonic() - self._began > FIRST_SCHEMA_S

    # ------------------------------------------------------------- configuration

    def reload(self, loaded: Loaded) -> None:
        """Raises `Misconfigured`, and changes nothing then. Call it on the loop."""
        standing = self._prepare(loaded)
        names = standing.configuration.environments
        for name in [n for n in self._upstreams if n not in names]:
            self._retire(self._upstreams.pop(name)[1])
            live = self._live.pop(name, None)
            if live is not None and live.task is not None:
                live.task.cancel()
            self._schemas.pop(name, None)
        self._standing = standing
        self.start()

    def _prepare(self, loaded: Loaded) -> Standing:
        """All that can fail comes before anything is changed."""
        schemas: dict[str, Schema] = {}
        live: set[str] = set()
        for name, config in loaded.configuration.environments.items():
            if config.schema_ == "live":
                live.add(name)
                known = self._schemas.get(name) or self._shelf.load(name)
                if known is not None:
                    schemas[name] = known
            else:
                schemas[name] = read_schema_file(config.schema_.file)
        standing = stand(loaded, schemas)
        clients = {
            name: self._connect(config)
            for name, config in loaded.configuration.environments.items()
            if name not in self._upstreams or self._upstreams[name][0] != config
        }
        for name, client in clients.items():
            if name in self._upstreams:
                self._retire(self._upstreams[name][1])
            self._upstreams[name] = (loaded.configuration.environments[name], client)
        self._schemas = {**self._schemas, **schemas}
        for name in live:
            self._live.setdefault(name, _Live())
        return standing

    def _retire(self, client: UpstreamClient) -> None:
        # What is under way on the old connections comes to its end.
        task = asyncio.get_running_loop().create_task(client.aclose(grace_s=60.0))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    # ------------------------------------------------------------------ schemas

    def start(self) -> None:
        """Keep the live schemas fresh, on the running loop."""
        loop = asyncio.get_running_loop()
        for name, live in self._live.items():
            if live.task is None or live.task.done():
                live.task = loop.create_task(self._keep(name, live))

    async def _keep(self, environment: str, live: _Live) -> None:
        while True:
            await self._fetch(environment, live)
            failed = live.failure is not None
            await asyncio.sleep(RETRY_S if failed else REFRESH_S)

    async def _fetch(self, environment: str, live: _Live) -> None:
        async with live.lock:
            live.asked = time.monotonic()
            config, client = self._upstreams[environment]
            source = self._metadata(environment, config, client)
            try:
                schema = await read_in_pieces(await source.csdl())
                ids = await source.table_ids()
            except (BrokerError, SchemaUnreadable) as error:
                said = error.detail if isinstance(error, BrokerError) else str(error)
                if live.failure != said:
                    log.warning("schema.failed", environment=environment, error=said)
                live.failure = said
                return
            live.failure = None
            self._adopt(environment, replace(schema, metadata_ids=ids))

    def _adopt(self, environment: str, schema: Schema) -> None:
        before = self._schemas.get(environment)
        if before is not None and before.version == schema.version and before.metadata_ids:
            return
        self._schemas[environment] = schema
        loaded = self._standing.loaded
        wanted = loaded.configuration.environments
        self._standing = stand(loaded, {n: s for n, s in self._schemas.items() if n in wanted})
        log.info(
            "schema.loaded",
            environment=environment,
            version=schema.version,
            tables=len(schema.sets),
        )
        for problem in self._standing.problems:
            log.warning(
                "grant.closed", place=".".join(map(str, problem.place)), problem=problem.message
            )
        self._shelf.store(environment, schema)

    async def aclose(self) -> None:
        tasks = [live.task for live in self._live.values() if live.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(c.aclose() for _, c in self._upstreams.values()))
        for retired in list(self._retired):
            retired.cancel()


async def read_in_pieces(document: bytes) -> Schema:
    """Read CSDL and let others have the loop in between. Raises `SchemaUnreadable`."""
    reader = CsdlReader()
    for start in range(0, len(document), FEED_BYTES):
        reader.feed(document[start : start + FEED_BYTES])
        await asyncio.sleep(0)
    return reader.finish()


def read_schema_file(path: Path) -> Schema:
    """A pinned schema. Raises `Misconfigured`."""
    try:
        return read_csdl(path.read_bytes())
    except (OSError, SchemaUnreadable) as error:
        raise Misconfigured("schema-invalid", f"{path}: {error}") from error

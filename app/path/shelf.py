"""Schemas in the state folder: after a restart an environment is served before it was asked."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

import structlog

from app.schema.building import SchemaUnreadable
from app.schema.compact import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.schema.model import Schema

log = structlog.get_logger()


class SchemaFolder:
    """One file for each environment and URL. What cannot be kept is only fetched once more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def load(self, environment: str, url: str) -> Schema | None:
        """None where there is none, or none that can be read."""
        file = self._file(environment, url)
        try:
            return await asyncio.to_thread(lambda: decode(file.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, SchemaUnreadable) as error:
            log.warning("schema.unkept", environment=environment, error=type(error).__name__)
            return None

    async def store(self, environment: str, url: str, schema: Schema) -> None:
        file = self._file(environment, url)
        try:
            await asyncio.to_thread(_replace, file, lambda: encode(schema))
        except OSError as error:
            log.warning("schema.unkept", environment=environment, error=type(error).__name__)

    def _file(self, environment: str, url: str) -> Path:
        # Another URL under the same name is another environment.
        place = hashlib.sha256(url.encode("utf-8")).hexdigest()[:12]
        return self._folder / f"{environment}-{place}.schema"


def _replace(file: Path, content: Callable[[], bytes]) -> None:
    """Whole or not at all, whoever reads or writes it at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(f".{os.getpid()}")
    written.write_bytes(content())
    written.replace(file)

"""What an environment says about its own tables, fetched for the schema stage to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID  # noqa: TC003 - msgspec needs it at run time

import msgspec

from app.dataverse.answer_headers import header
from app.dataverse.codings import ACCEPT_ENCODING, decoder_for
from app.dataverse.failures import ExchangeFailed, Stage
from app.dataverse.link_bases import LinkBases
from app.dataverse.message import UpstreamRequest
from app.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.dataverse.message import Upstream

METADATA_MAX_BYTES: Final = 64 * 1024 * 1024
"""Of $metadata, unpacked. Environments with 1,500 tables have some 8 MB."""

PAGES_MAX: Final = 100

_DEFINITIONS: Final = b"EntityDefinitions?$select=MetadataId,LogicalName,EntitySetName"


class TableDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A table's names and the id that EntityDefinitions(<id>) addresses it by."""

    metadata_id: UUID = msgspec.field(name="MetadataId")
    logical_name: str = msgspec.field(name="LogicalName")
    entity_set_name: str | None = msgspec.field(name="EntitySetName", default=None)


class _Page(msgspec.Struct, frozen=True):
    value: tuple[TableDefinition, ...]
    next_link: str | None = msgspec.field(name="@odata.nextLink", default=None)


class MetadataRefused(UpstreamFailed):
    """The environment answered, but not with its metadata. `status` is its own."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(
            "metadata-refused",
            f"the environment answered {what} with {status}: the application needs an enabled "
            "application user with a security role there",
        )
        self.status = status


class EnvironmentMetadata:
    """Reads as the application whose token `token` gives. Nothing is tried twice here."""

    def __init__(
        self,
        upstream: Upstream,
        token: Callable[[], Awaitable[str]],
        *,
        environment_url: str,
        api_version: str = "v9.2",
        timeout_s: float = 120.0,
        max_bytes: int = METADATA_MAX_BYTES,
    ) -> None:
        self._upstream = upstream
        self._token = token
        self._root = f"/api/data/{api_version}/".encode("ascii")
        # Under an empty base, a link to the environment is its path and query.
        self._origin = LinkBases(environment=environment_url, broker="")
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes

    async def csdl(self) -> bytes:
        """$metadata: CSDL 4.0 as XML.

        Raises `MetadataRefused`, and `ExchangeFailed` for more than `max_bytes` among others.
        """
        return await self._get(self._root + b"$metadata", b"application/xml", "$metadata")

    async def definitions(self) -> tuple[TableDefinition, ...]:
        """All tables. Raises like `csdl`."""
        rows: list[TableDefinition] = []
        target = self._root + _DEFINITIONS
        for _ in range(PAGES_MAX):
            body = await self._get(target, b"application/json", "EntityDefinitions")
            try:
                page = msgspec.json.decode(body, type=_Page)
            except (msgspec.DecodeError, msgspec.ValidationError) as e:
                raise _malformed("EntityDefinitions that cannot be read") from e
            rows += page.value
            if page.next_link is None:
                return tuple(rows)
            target = self._next(page.next_link)
        raise _malformed("EntityDefinitions without end")

    def _next(self, link: str) -> bytes:
        target = self._origin.to_broker(link)
        if target is None or not target.startswith("/") or not target.isascii():
            raise _malformed("a next page that is elsewhere")
        return target.encode("ascii")

    async def _get(self, target: bytes, accept: bytes, what: str) -> bytes:
        authorization = b"Bearer " + (await self._token()).encode("ascii")
        request = UpstreamRequest(
            "GET",
            target,
            (
                (b"Accept", accept),
                (b"Accept-Encoding", ACCEPT_ENCODING),
                (b"Authorization", authorization),
                (b"OData-Version", b"4.0"),
                (b"OData-MaxVersion", b"4.0"),
            ),
        )
        answer = await self._upstream.send(request, timeout_s=self._timeout_s)
        try:
            if answer.status != 200:
                raise MetadataRefused(what, answer.status)
            decoder = decoder_for(header(answer.headers, b"content-encoding"))
            body = bytearray()
            async for chunk in answer.chunks():
                for piece in [chunk] if decoder is None else decoder.feed(chunk):
                    body += piece
                    if len(body) > self._max_bytes:
                        raise _malformed(f"{what} of more than {self._max_bytes} bytes")
            if decoder is not None:
                decoder.finish()
        finally:
            await answer.aclose()
        return bytes(body)


def _malformed(what: str) -> ExchangeFailed:
    return ExchangeFailed(
        "upstream-malformed", f"the environment sent {what}", stage=Stage.ANSWERING
    )

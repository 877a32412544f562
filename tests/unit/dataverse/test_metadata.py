from __future__ import annotations

import contextlib
import gzip
import json
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from app.dataverse.client import UpstreamClient
from app.dataverse.failures import ExchangeFailed
from app.dataverse.metadata import EnvironmentMetadata, MetadataRefused, TableDefinition
from tests.unit.dataverse.servers import raw_server, read_head

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

HERE = "https://contoso.crm4.dynamics.com"
ACCOUNT = UUID("70816501-edb9-4740-a16c-6a5efbc05d84")
CSDL = b"<edmx:Edmx/>" * 1000


def answer(body: bytes, *, status: bytes = b"200 OK", packed: bool = False) -> bytes:
    coding = b"Content-Encoding: gzip\r\n" if packed else b""
    body = gzip.compress(body) if packed else body
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, coding, len(body), body)


@contextlib.asynccontextmanager
async def environment(
    *answers: bytes, max_bytes: int = 100_000
) -> AsyncIterator[tuple[EnvironmentMetadata, list[bytes]]]:
    heads: list[bytes] = []
    left = list(answers)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await read_head(reader))
            writer.write(left.pop(0))

    async def token() -> str:
        return "the-token"

    async with raw_server(handler) as server:
        client = UpstreamClient(server.url)
        try:
            yield (
                EnvironmentMetadata(client, token, environment_url=HERE, max_bytes=max_bytes),
                heads,
            )
        finally:
            await client.aclose()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_the_csdl_is_fetched_with_the_token(packed: bool) -> None:  # noqa: FBT001
    async with environment(answer(CSDL, packed=packed)) as (metadata, heads):
        assert await metadata.csdl() == CSDL
    assert heads[0].startswith(b"GET /api/data/v9.2/$metadata HTTP/1.1\r\n")
    assert b"Authorization: Bearer the-token\r\n" in heads[0]
    assert b"Accept: application/xml\r\n" in heads[0]


async def test_all_pages_of_the_definitions_are_read() -> None:
    row = {"MetadataId": str(ACCOUNT), "LogicalName": "account", "EntitySetName": "accounts"}
    first = {
        "@odata.context": "x",
        "value": [row],
        "@odata.nextLink": HERE + "/api/data/v9.2/next?p=2",
    }
    second = {"value": [{**row, "LogicalName": "principal", "EntitySetName": None}]}
    async with environment(*[answer(json.dumps(page).encode()) for page in (first, second)]) as (
        metadata,
        heads,
    ):
        assert await metadata.definitions() == (
            TableDefinition(
                metadata_id=ACCOUNT, logical_name="account", entity_set_name="accounts"
            ),
            TableDefinition(metadata_id=ACCOUNT, logical_name="principal"),
        )
    assert [head.split(b" ")[1] for head in heads] == [
        b"/api/data/v9.2/EntityDefinitions?$select=MetadataId,LogicalName,EntitySetName",
        b"/api/data/v9.2/next?p=2",
    ]


@pytest.mark.parametrize("link", ["https://elsewhere.example/next", "//elsewhere.example", "next"])
async def test_a_next_page_elsewhere_is_not_followed(link: str) -> None:
    page = answer(json.dumps({"value": [], "@odata.nextLink": link}).encode())
    async with environment(page) as (metadata, heads):
        with pytest.raises(ExchangeFailed, match="elsewhere"):
            await metadata.definitions()
    assert len(heads) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"value":[{}]}', b'{"value":[{"MetadataId":"x"}]}'])
async def test_definitions_that_cannot_be_read_are_refused(body: bytes) -> None:
    async with environment(answer(body)) as (metadata, _):
        with pytest.raises(ExchangeFailed, match="cannot be read"):
            await metadata.definitions()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_metadata_beyond_the_bound_is_refused(packed: bool) -> None:  # noqa: FBT001
    fits, beyond = answer(CSDL, packed=packed), answer(CSDL + b"x", packed=packed)
    async with environment(fits, beyond, max_bytes=len(CSDL)) as (metadata, _):
        assert await metadata.csdl() == CSDL
        with pytest.raises(ExchangeFailed, match="of more than"):
            await metadata.csdl()


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"403 Forbidden", b"302 Found"])
async def test_a_refusal_is_told_with_its_status(status: bytes) -> None:
    async with environment(answer(b"", status=status)) as (metadata, _):
        with pytest.raises(MetadataRefused, match=status[:3].decode()) as caught:
            await metadata.csdl()
    assert (caught.value.code, caught.value.status) == ("metadata-refused", int(status[:3]))

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.identity.issuing import IssuerServer, rsa_key

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Iterator[IssuerServer]:
    with IssuerServer(rsa_key("one")) as server:
        yield server

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.tokens.service import TokenService
from tests.unit.tokens.fakes import (
    Counted,
    FakeClock,
    FakeEntra,
    FakeSecrets,
    application,
    secret_credential,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def entra() -> FakeEntra:
    return FakeEntra()


@pytest.fixture
def secrets() -> FakeSecrets:
    return FakeSecrets(A="secret-a", B="secret-b")


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
async def service(
    clock: FakeClock, entra: FakeEntra, secrets: FakeSecrets, counted: Counted
) -> AsyncIterator[TokenService]:
    """One application, `erp`, with the secrets A and B in this order."""
    service = TokenService(
        {"erp": application(secret_credential("A"), secret_credential("B"))},
        secrets,
        entra=entra,
        clock=clock,
        observer=counted,
        chance=lambda: 0.0,
        patience_s=1.0,
    )
    yield service
    await service.aclose()

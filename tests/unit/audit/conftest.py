from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.audit.keys import CheckpointKeys, CheckpointSigner
from app.audit.record import Record, RecordIds, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 10, 14, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def signer() -> CheckpointSigner:
    return CheckpointSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@pytest.fixture(scope="session")
def keys(signer: CheckpointSigner) -> CheckpointKeys:
    return CheckpointKeys([signer.public_key])


@pytest.fixture
def record() -> Callable[..., Record]:
    """Makes records that differ in what they are told, a second apart."""
    ids, ticks = RecordIds(), itertools.count()

    def make(**fields: Any) -> Record:
        time = NOON + timedelta(seconds=next(ticks))
        whole: dict[str, Any] = {
            "phase": "outcome",
            "id": ids.next(time),
            "time": timestamp(time),
            "action": "proxy",
            "decision": "allowed",
            "caller": "invoice-loader",
            "environment": "contoso",
        }
        return Record(**(whole | fields))

    return make

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from app.errors import BrokerError, NotGranted, Unauthenticated
from app.web.issuing import Credential, Issued
from app.web.managed_identity import ManagedIdentity

if TYPE_CHECKING:
    from app.web.asgi import RequestHead

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = (b"x-identity-header", b"dvb_k1_s")
TARGET = b"/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fbroker%2Fenvironments%2Fdev"


@dataclass
class Path:
    failure: BrokerError | None = None
    client_id: str | None = "5c2e9d10-66f1-4f7c-8f43-7f0f6f0b8d21"
    asked: list[tuple[str | None, str | None, Credential | None]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    async def issue(
        self,
        _head: RequestHead,
        *,
        environment: str | None,
        resource: str | None,
        credential: Credential | None = None,
    ) -> Issued:
        self.asked.append((environment, resource, credential))
        if self.failure is not None:
            raise self.failure
        return Issued(
            access_token="ey.hunter2",
            expires_on=NOON + timedelta(seconds=900),
            resource="https://broker/environments/dev",
            application=None,
            client_id=self.client_id,
        )

    async def refuse(self, _head: RequestHead, error: BrokerError) -> None:
        self.refused.append(error.code)


def app(path: Path) -> ManagedIdentity:
    return ManagedIdentity(path, refusals=path, now=lambda: NOON)


async def test_the_answer_is_in_the_forms_that_every_sdk_reads(call: Any) -> None:
    path = Path()
    seen = await call(app(path), TARGET + b"&client_id=x", headers=[KEY, (b"metadata", b"true")])
    key = Credential(kind="identity_header", name=None, secret="dvb_k1_s")
    assert path.asked == [(None, "https://broker/environments/dev", key)]
    assert seen.headers["cache-control"] == "no-store"
    noon = int(NOON.timestamp())
    # .NET takes the last of expires_in and expires_on, so the order counts too.
    assert list(seen.json().items()) == [
        ("access_token", "ey.hunter2"),
        ("token_type", "Bearer"),
        ("expires_in", "900"),
        ("not_before", str(noon)),
        ("expires_on", str(noon + 900)),
        ("resource", "https://broker/environments/dev"),
        ("client_id", "5c2e9d10-66f1-4f7c-8f43-7f0f6f0b8d21"),
    ]


async def test_a_token_of_no_application_still_has_a_client_id(call: Any) -> None:
    seen = await call(app(Path(client_id=None)), TARGET, headers=[KEY])
    assert seen.json()["client_id"] == "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("headers", "target", "status", "code"),
    [
        pytest.param(
            [KEY, (b"x-forwarded-for", b"10.0.0.1")], TARGET, 400, "bad-header", id="forwarded"
        ),
        pytest.param([], TARGET, 401, "unauthenticated", id="no key"),
        pytest.param([(KEY[0], b"")], TARGET, 401, "unauthenticated", id="an empty key"),
        pytest.param([KEY, KEY], TARGET, 400, "duplicate-header", id="two keys"),
        pytest.param(
            [KEY, (b"authorization", b"Bearer x")], TARGET, 400, "two-credentials", id="and bearer"
        ),
        pytest.param([KEY], b"/msi/token?resource=r", 400, "bad-query", id="no version"),
        pytest.param(
            [KEY],
            b"/msi/token?resource=r&api-version=2017-09-01",
            400,
            "bad-query",
            id="an old version",
        ),
        pytest.param(
            [KEY], b"/msi/token?api-version=2019-08-01", 400, "bad-query", id="no resource"
        ),
        pytest.param([KEY], TARGET + b"&resource=r", 400, "bad-body", id="two resources"),
        pytest.param([KEY], TARGET + b"&code=x", 400, "bad-query", id="an unknown option"),
    ],
)
async def test_a_request_that_is_not_the_protocols_is_recorded_and_refused(
    call: Any, *, headers: Any, target: bytes, status: int, code: str
) -> None:
    path = Path()
    seen = await call(app(path), target, headers=headers)
    assert (seen.status, path.refused, path.asked) == (status, [code], [])
    assert seen.json()["statusCode"] == status
    assert seen.json()["message"] == seen.json()["error_description"]
    assert seen.json()["correlationId"] == seen.headers["broker-request-id"]


async def test_only_get_is_read(call: Any) -> None:
    path = Path()
    seen = await call(app(path), TARGET, method="POST", headers=[KEY])
    assert (seen.status, seen.headers["allow"], path.refused) == (
        405,
        "GET",
        ["method-not-allowed"],
    )


@pytest.mark.parametrize(
    ("failure", "status", "error"),
    [
        (Unauthenticated("unauthenticated", "nobody"), 401, "invalid_client"),
        (NotGranted("token-not-granted", "ask for https://b"), 403, "unauthorized_client"),
        (BrokerError("never-heard-of", "hunter2"), 500, "server_error"),
    ],
)
async def test_a_refusal_of_the_path_is_told_once(
    call: Any, failure: BrokerError, status: int, error: str
) -> None:
    path = Path(failure=failure)
    seen = await call(app(path), TARGET, headers=[KEY])
    assert (seen.status, seen.json()["error"], path.refused) == (status, error, [])
    assert b"hunter2" not in seen.body

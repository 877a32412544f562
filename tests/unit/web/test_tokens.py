from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from app.errors import BrokerError, NotGranted, Unauthenticated, Unreadable
from app.web.dispatch import Dispatcher
from app.web.issuing import Credential, Issued, resource_of
from app.web.tokens import Tokens

if TYPE_CHECKING:
    from app.web.asgi import RequestHead

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FORM = [(b"content-type", b"application/x-www-form-urlencoded")]
JSON = [(b"content-type", b"application/json")]


@dataclass
class Path:
    """Stands for the broker: gives out one token, and notes what was asked of it."""

    failure: BrokerError | None = None
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    in_flight: int = 0

    async def issue(
        self,
        head: RequestHead,
        *,
        environment: str | None,
        resource: str | None,
        credential: Credential | None = None,
    ) -> Issued:
        assert head.method == "POST"
        assert credential is None
        self.asked.append((environment, resource))
        if self.failure is not None:
            raise self.failure
        return Issued(
            access_token="ey.hunter2",
            expires_on=NOON + timedelta(seconds=3599.7),
            resource="https://contoso.crm4.dynamics.com",
            application="erp-invoices",
        )

    async def refuse(self, _head: RequestHead, error: BrokerError) -> None:
        self.refused.append(error.code)


def app(path: Path) -> Dispatcher:
    tokens = Tokens(path, refusals=path, now=lambda: NOON)
    return Dispatcher(
        proxy=tokens,
        tokens=tokens,
        health=tokens,
        management=tokens,
        refusals=path,
        in_flight=path,
    )


async def test_a_token_is_answered_as_oauth_clients_read_it(call: Any) -> None:
    path = Path()
    seen = await call(app(path), b"/environments/contoso/token", method="POST")
    assert path.asked == [("contoso", None)]
    assert seen.json() == {
        "access_token": "ey.hunter2",
        "token_type": "Bearer",
        "expires_in": 3599,
        "expires_on": int(NOON.timestamp()) + 3599,
        "resource": "https://contoso.crm4.dynamics.com",
        "application": "erp-invoices",
    }
    request_id = seen.headers.pop("broker-request-id")
    assert len(request_id) == 36
    assert seen.headers == {
        "content-type": "application/json",
        "content-length": str(len(seen.body)),
        "cache-control": "no-store",
        "pragma": "no-cache",
        "broker-decision": "allowed",
    }


@pytest.mark.parametrize(
    ("headers", "body", "resource"),
    [
        pytest.param(FORM, b"resource=https%3A%2F%2Fbroker", "https://broker", id="resource"),
        pytest.param(FORM, b"scope=https://broker/.default", "https://broker", id="scope"),
        pytest.param(JSON, b'{"resource": "https://broker"}', "https://broker", id="json"),
        pytest.param([], b"", None, id="none"),
    ],
)
async def test_the_body_may_name_the_resource(
    call: Any, headers: Any, body: bytes, resource: str | None
) -> None:
    path = Path()
    target = b"/environments/contoso/token"
    seen = await call(app(path), target, method="POST", headers=headers, body=[body])
    assert (seen.status, path.asked) == (200, [("contoso", resource)])


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "code"),
    [
        ("GET", b"/environments/contoso/token", b"", 405, "method-not-allowed"),
        ("POST", b"/environments/contoso/token?key=dvb_1", b"", 400, "bad-query"),
        ("POST", b"/environments/contoso/token", b"client_secret=x", 400, "bad-body"),
        ("POST", b"/environments/contoso/token", b"a" * 65_537, 413, "body-too-large"),
        ("POST", b"/environments/contoso/token", b"scope=a+b", 400, "bad-scope"),
        ("POST", b"/environments/caf\xe9/token", b"", 400, "bad-path"),
    ],
)
async def test_a_request_that_cannot_be_read_is_recorded_and_refused(
    call: Any, *, method: str, target: bytes, body: bytes, status: int, code: str
) -> None:
    path = Path()
    seen = await call(app(path), target, method=method, headers=FORM, body=[body])
    assert (seen.status, path.refused, path.asked) == (status, [code], [])
    assert seen.json()["error"] == ("invalid_scope" if code == "bad-scope" else "invalid_request")
    assert seen.headers["broker-decision"] == "refused"


@pytest.mark.parametrize(
    ("failure", "status", "error"),
    [
        (Unauthenticated("unauthenticated", "no known credential"), 401, "invalid_client"),
        (NotGranted("not-granted", "no grant for contoso"), 403, "invalid_target"),
        (NotGranted("token-not-granted", "ask for https://b"), 403, "unauthorized_client"),
    ],
)
async def test_a_refusal_of_the_path_is_told_once(
    call: Any, failure: BrokerError, status: int, error: str
) -> None:
    path = Path(failure=failure)
    seen = await call(app(path), b"/environments/contoso/token", method="POST")
    assert (seen.status, seen.json()["error"], path.refused) == (status, error, [])
    assert seen.json()["request_id"] == seen.headers["broker-request-id"]


def test_an_issued_token_and_a_credential_never_show_themselves() -> None:
    issued = Issued(access_token="hunter2", expires_on=NOON, resource="r", application=None)
    credential = Credential(kind="client_secret", name="loader", secret="hunter2")
    assert "hunter2" not in repr(issued) + repr(credential) + str(issued) + str(credential)


@pytest.mark.parametrize(
    ("fields", "resource"),
    [
        ({}, None),
        ({"resource": "https://x"}, "https://x"),
        ({"scope": "https://x/.default"}, "https://x"),
        ({"scope": "https://x//.default"}, "https://x/"),
        ({"scope": "https://x/.default", "resource": "https://x/"}, "https://x"),
    ],
)
def test_a_resource_is_named_either_way(fields: dict[str, str], resource: str | None) -> None:
    assert resource_of(fields) == resource


@pytest.mark.parametrize(
    "fields",
    [
        {"scope": "https://x"},
        {"scope": "https://x/.default https://y/.default"},
        {"scope": "https://x/.default", "resource": "https://y"},
        {"scope": " "},
        {"scope": "https://x/.default/"},
    ],
)
def test_two_resources_or_half_a_scope_are_unreadable(fields: dict[str, str]) -> None:
    with pytest.raises(Unreadable) as caught:
        resource_of(fields)
    assert caught.value.code == "bad-scope"

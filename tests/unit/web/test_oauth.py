from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BrokerError, NotGranted, Unauthenticated, Unreadable
from app.web.asgi import RequestHead
from app.web.forms import read_form
from app.web.issuing import Credential, Issued
from app.web.oauth import OAuth, read_credential

pytestmark = pytest.mark.anyio

if TYPE_CHECKING:
    Headers = tuple[tuple[bytes, bytes], ...]

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FORM = (b"content-type", b"application/x-www-form-urlencoded")
V2 = b"/8b1f7a52-0c52-4d1c-9f4e-2b0b3c0f6f11/oauth2/v2.0/token"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"


@dataclass
class Path:
    """Stands for the broker: gives out one token, and notes what was asked of it."""

    failure: BrokerError | None = None
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
            expires_on=NOON + timedelta(seconds=3599.7),
            resource="https://contoso.crm4.dynamics.com",
            application="erp",
            issued_at=NOON - timedelta(seconds=10),
        )

    async def refuse(self, _head: RequestHead, error: BrokerError) -> None:
        self.refused.append(error.code)


def basic(user: str, secret: str) -> tuple[bytes, bytes]:
    return (b"authorization", b"Basic " + base64.b64encode(f"{user}:{secret}".encode()))


async def ask(
    call: Any, path: Path, fields: dict[str, str], *headers: Any, target: bytes = V2
) -> Any:
    return await call(
        OAuth(path, refusals=path, now=lambda: NOON),
        target,
        method="POST",
        headers=[FORM, *headers],
        body=[urlencode(fields).encode()],
    )


GUIDE = {
    "client_id": "loader",
    "client_secret": "dvb_k1_s",
    "grant_type": "client_credentials",
    "scope": "https://contoso.crm4.dynamics.com/.default",
}
"""The literal request of Microsoft's guide."""


async def test_the_request_of_microsofts_guide_gives_a_token(call: Any) -> None:
    path = Path()
    seen = await ask(call, path, GUIDE)
    secret = Credential(kind="client_secret", name="loader", secret="dvb_k1_s")
    assert path.asked == [(None, "https://contoso.crm4.dynamics.com", secret)]
    assert (seen.status, seen.headers["cache-control"]) == (200, "no-store")
    assert seen.json() == {
        "token_type": "Bearer",
        "expires_in": 3599,
        "access_token": "ey.hunter2",
    }


async def test_a_query_of_telemetry_changes_nothing(call: Any) -> None:
    seen = await ask(call, Path(), GUIDE, target=V2 + b"?client-request-id=0192&brk_x=1")
    assert seen.status == 200


async def test_version_one_answers_strings(call: Any) -> None:
    path = Path()
    fields = {**GUIDE, "resource": "https://contoso.crm4.dynamics.com"}
    del fields["scope"]
    seen = await ask(call, path, fields, target=b"/t/oauth2/token")
    assert seen.json() == {
        "token_type": "Bearer",
        "expires_in": "3599",
        "expires_on": str(int(NOON.timestamp()) + 3599),
        "not_before": str(int(NOON.timestamp()) - 10),
        "resource": "https://contoso.crm4.dynamics.com",
        "access_token": "ey.hunter2",
    }


async def test_a_token_exchange_says_what_it_issued(call: Any) -> None:
    path = Path()
    fields = {
        "grant_type": EXCHANGE,
        "subject_token": "ey.kubernetes",
        "subject_token_type": JWT_TYPE,
        "audience": "https://broker",
    }
    seen = await ask(call, path, fields)
    subject = Credential(kind="subject_token", name=None, secret="ey.kubernetes")
    assert path.asked == [(None, "https://broker", subject)]
    issued_type = seen.json()["issued_token_type"]
    assert issued_type == "urn:ietf:params:oauth:token-type:access_token"


async def test_a_subject_token_of_nobody_is_an_invalid_request(call: Any) -> None:
    fields = {
        "grant_type": EXCHANGE,
        "subject_token": "ey.nobody",
        "subject_token_type": JWT_TYPE,
    }
    path = Path(failure=Unauthenticated("unauthenticated", "no credential that is known"))
    seen = await ask(call, path, fields)
    assert (seen.status, seen.json()["error"]) == (400, "invalid_request")
    assert "www-authenticate" not in seen.headers


@pytest.mark.parametrize(
    ("failure", "status", "error"),
    [
        (Unauthenticated("unauthenticated", "nobody"), 401, "invalid_client"),
        (NotGranted("not-granted", "no"), 400, "invalid_target"),
        (NotGranted("token-not-granted", "ask for https://b"), 400, "unauthorized_client"),
    ],
)
async def test_refusals_are_entras(
    call: Any, failure: BrokerError, status: int, error: str
) -> None:
    path = Path(failure=failure)
    seen = await ask(call, path, GUIDE)
    assert (seen.status, seen.json()["error"], path.refused) == (status, error, [])
    assert seen.json()["correlation_id"] == seen.headers["broker-request-id"]


HEAD_SECRETS: Any = [
    pytest.param((), {"client_secret": "s"}, ("client_secret", None), id="post without a name"),
    pytest.param((basic("loader", "s"),), {}, ("client_secret", "loader"), id="basic"),
    pytest.param((basic("l%2Fr", "%73"),), {}, ("client_secret", "l/r"), id="basic, encoded"),
    pytest.param(
        (basic("loader", "s"),),
        {"client_id": "loader"},
        ("client_secret", "loader"),
        id="basic, and the name again",
    ),
    pytest.param(
        (),
        {"client_assertion": "s", "client_assertion_type": JWT_BEARER, "client_id": "loader"},
        ("client_assertion", "loader"),
        id="assertion",
    ),
    pytest.param(
        (),
        {"grant_type": EXCHANGE, "subject_token": "s", "subject_token_type": JWT_TYPE},
        ("subject_token", None),
        id="exchange",
    ),
    pytest.param(((b"authorization", b"Bearer s"),), {}, None, id="bearer"),
    pytest.param(((b"x-api-key", b"s"),), {"client_id": "loader"}, None, id="x-api-key"),
    pytest.param((), {}, None, id="nothing"),
]


def head(*headers: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(
        request_id="id", method="POST", path=V2, query=b"", headers=headers, peer=None
    )


@pytest.mark.parametrize(("headers", "fields", "found"), HEAD_SECRETS)
def test_a_caller_proves_itself_in_one_of_many_ways(
    headers: Headers, fields: dict[str, str], found: tuple[Any, str | None] | None
) -> None:
    credential = read_credential(head(*headers), {"grant_type": "client_credentials", **fields})
    if found is None:
        assert credential is None
    else:
        assert credential == Credential(kind=found[0], name=found[1], secret="s")


@pytest.mark.parametrize(
    ("headers", "fields", "code"),
    [
        pytest.param((), {"grant_type": ""}, "bad-body", id="no grant type"),
        pytest.param((), {"grant_type": "password"}, "unsupported-grant-type", id="password"),
        pytest.param(
            (basic("loader", "s"),), {"client_secret": "s"}, "two-credentials", id="basic and post"
        ),
        pytest.param(
            ((b"x-api-key", b"k"),), {"client_secret": "s"}, "two-credentials", id="key and post"
        ),
        pytest.param(
            ((b"authorization", b"Bearer s"),),
            {"client_assertion": "a", "client_assertion_type": JWT_BEARER},
            "two-credentials",
            id="bearer and assertion",
        ),
        pytest.param(
            (),
            {
                "grant_type": EXCHANGE,
                "subject_token": "s",
                "subject_token_type": JWT_TYPE,
                "client_secret": "s",
            },
            "two-credentials",
            id="subject and secret",
        ),
        pytest.param((basic("loader", "s"),), {"client_id": "other"}, "bad-header", id="two names"),
        pytest.param(((b"authorization", b"Basic !"),), {}, "bad-header", id="no base64"),
        pytest.param(
            ((b"authorization", b"Basic " + base64.b64encode(b"loader")),),
            {},
            "bad-header",
            id="no colon",
        ),
        pytest.param(
            ((b"authorization", b"Bearer a"), (b"authorization", b"Bearer a")),
            {},
            "duplicate-header",
            id="two headers",
        ),
        pytest.param((), {"client_assertion": "a"}, "bad-body", id="no assertion type"),
        pytest.param((), {"grant_type": EXCHANGE}, "bad-body", id="no subject"),
        pytest.param(
            (),
            {"grant_type": EXCHANGE, "subject_token": "s", "subject_token_type": "saml2"},
            "bad-body",
            id="a SAML subject",
        ),
        pytest.param(
            (),
            {
                "grant_type": EXCHANGE,
                "subject_token": "s",
                "subject_token_type": JWT_TYPE,
                "actor_token": "a",
            },
            "bad-body",
            id="an actor",
        ),
        pytest.param(
            (),
            {
                "grant_type": EXCHANGE,
                "subject_token": "s",
                "subject_token_type": JWT_TYPE,
                "requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token",
            },
            "bad-body",
            id="a refresh token",
        ),
    ],
)
def test_two_proofs_or_half_a_proof_are_unreadable(
    headers: Headers, fields: dict[str, str], code: str
) -> None:
    given_fields = {"grant_type": "client_credentials", **fields}
    with pytest.raises(Unreadable) as caught:
        read_credential(head(*headers), {k: v for k, v in given_fields.items() if v})
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("method", "target", "body", "code"),
    [
        ("GET", V2, b"", "method-not-allowed"),
        ("POST", V2 + b"?client_secret=s", b"", "bad-query"),
        ("POST", V2, b"grant_type=client_credentials&grant_type=x", "bad-body"),
        ("POST", V2, b"grant_type=client_credentials&scope=a%20b", "bad-scope"),
        ("POST", V2, b"a" * 65_537, "body-too-large"),
        (
            "POST",
            V2,
            (
                f"grant_type={EXCHANGE}&subject_token=s&subject_token_type={JWT_TYPE}"
                "&audience=a&resource=b"
            ).encode(),
            "bad-scope",
        ),
    ],
)
async def test_what_cannot_be_read_is_recorded_and_refused(
    call: Any, *, method: str, target: bytes, body: bytes, code: str
) -> None:
    path = Path()
    app = OAuth(path, refusals=path, now=lambda: NOON)
    seen = await call(app, target, method=method, headers=[FORM], body=[body])
    assert (seen.status, path.refused, path.asked) == (400, [code], [])
    assert seen.headers["broker-decision"] == "refused"
    if method == "GET":
        assert seen.headers["allow"] == "POST"


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_request_gives_one_credential_none_or_unreadable(body: bytes, value: bytes) -> None:
    with contextlib.suppress(Unreadable):
        read_credential(head((b"authorization", b"Basic " + value)), read_form(body))

"""Whose token, and for what: a request gets the one token that it names and may have."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from app.sandbox.credentials import CLIENT_IDS, OF_LEGACY_JOB, WITH_SECRET
from tests.path.callers.conftest import FORM, TENANT
from tests.path.callers.test_attacks_credentials import as_proof, assert_stranger

if TYPE_CHECKING:
    from tests.path.callers.conftest import Desk
    from tests.path.raw_http import RawAnswer


def unverified(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


def refused(answer: RawAnswer, error: str, status: int = 400) -> str:
    assert (answer.status, answer.json()["error"]) == (status, error), answer.text
    assert "access_token" not in answer.json()
    return str(answer.json()["error_description"])


# ------------------------------------------------------------ which token


def test_the_environments_url_gives_its_raw_token(desk: Desk) -> None:
    for resource in (desk.contoso, f"{desk.contoso}/"):
        token = desk.by_secret("two-ways", resource).json()["access_token"]
        assert unverified(token)["aud"].rstrip("/") == desk.contoso
        assert unverified(token)["appid"] == CLIENT_IDS[OF_LEGACY_JOB]


def test_without_the_right_the_answer_names_the_url_to_ask_for(desk: Desk) -> None:
    said = refused(desk.by_secret("loader", desk.contoso), "unauthorized_client")
    assert f"{desk.base}/.default" in said
    assert desk.by_secret("loader", desk.base).status == 200


@pytest.mark.parametrize(
    ("resource", "audience"),
    [
        ("{broker}", "{broker}"),
        ("{broker}/", "{broker}"),
        ("{broker}/environments/contoso", "{broker}/environments/contoso"),
        ("{broker}/environments/contoso/", "{broker}/environments/contoso"),
    ],
)
def test_the_brokers_own_url_gives_a_broker_token(desk: Desk, resource: str, audience: str) -> None:
    answer = desk.by_secret("loader", resource.format(broker=desk.broker.url))
    assert answer.status == 200, answer.text
    assert (answer.header("cache-control"), answer.header("pragma")) == ("no-store", "no-cache")
    document = answer.json()
    assert document.keys() == {"token_type", "expires_in", "access_token"}
    assert 890 <= document["expires_in"] <= 900
    claims = unverified(document["access_token"])
    record = desk.record_of(answer)
    assert (claims["iss"], claims["sub"]) == (desk.broker.url, "loader")
    assert claims["aud"] == audience.format(broker=desk.broker.url)
    assert claims["jti"] == record.id


NOTHING = [
    "https://evil",
    "https://evil.example/dataverse",
    "{contoso}.evil.example",
    "{contoso}@evil.example",
    "{contoso}/api/data/v9.2",
    "{contoso}/../fabrikam",
    "{contoso}\\@evil.example",
    "{contoso}?x=https://evil.example",
    "{contoso}#evil",
    "{contoso}/%2e%2e",
    "{broker}/environments/contoso/../fabrikam",
    "{broker}/environments/fabrikam%2f..%2fcontoso",
    "{broker}/environments/%63ontoso",
    "{broker}/environments//contoso",
    "{broker}/environments/CONTOSO",
    "{broker}/environments/c\u043entoso",
    "{broker}/environments/nowhere",
    "{broker}/environments/fabrikam",
    "{fabrikam}",
    "{fabrikam}/",
    "file:///etc/passwd",
    "api://dataverse-token-broker",
]


@pytest.mark.parametrize("resource", NOTHING)
def test_a_resource_that_is_not_the_callers_is_no_target_whether_it_exists_or_not(
    desk: Desk, resource: str
) -> None:
    named = resource.format(contoso=desk.contoso, fabrikam=desk.fabrikam, broker=desk.broker.url)
    before = desk.sandbox.entra.token_requests
    said = set()
    by_resource = desk.token({**_fields(desk), "resource": named})
    for answer in (desk.by_secret("loader", named), by_resource):
        said.add(refused(answer, "invalid_target"))
        assert named not in answer.text
    answer = desk.broker.ask(
        "GET",
        f"/msi/token?api-version=2019-08-01&resource={quote(named, safe='')}",
        headers={"X-IDENTITY-HEADER": desk.broker.keys["loader"]},
    )
    assert "access_token" not in answer.text
    # Neither the words nor the wire tell a stranger's environment from one that is not there.
    assert said == {refused(desk.by_secret("loader", "https://nowhere.example"), "invalid_target")}
    assert desk.sandbox.entra.token_requests == before


def _fields(desk: Desk, caller: str = "loader") -> dict[str, str]:
    return {
        "client_id": caller,
        "client_secret": desk.broker.keys[caller],
        "grant_type": "client_credentials",
    }


@pytest.mark.parametrize(
    "scope",
    [
        "{contoso}",
        "{contoso}/.default {fabrikam}/.default",
        "{contoso}/.default openid",
        "{contoso}/user_impersonation",
        "{contoso}/.default/.default",
        "{contoso}/.DEFAULT",
        ".default",
        "openid",
    ],
)
def test_a_scope_that_is_not_one_resources_default_is_none(desk: Desk, scope: str) -> None:
    named = scope.format(contoso=desk.contoso, fabrikam=desk.fabrikam)
    refused(desk.token({**_fields(desk, "two-ways"), "scope": named}), "invalid_scope")


def test_a_scope_and_a_resource_that_differ_are_refused(desk: Desk) -> None:
    fields = {**_fields(desk, "two-ways"), "scope": f"{desk.contoso}/.default"}
    refused(desk.token({**fields, "resource": desk.fabrikam}), "invalid_scope")
    assert desk.token({**fields, "resource": desk.contoso}).status == 200


@pytest.mark.parametrize("resource", ["{fabrikam}", "{broker}/environments/fabrikam"])
def test_an_environments_address_gives_no_other_environments_token(
    desk: Desk, resource: str
) -> None:
    named = resource.format(fabrikam=desk.fabrikam, broker=desk.broker.url)
    headers = {"Authorization": f"Bearer {desk.broker.keys['two-ways']}", "Content-Type": FORM}
    for environment, status in (("contoso", 403), ("fabrikam", 200)):
        answer = desk.broker.ask(
            "POST", f"/environments/{environment}/token", headers=headers, body=f"resource={named}"
        )
        assert answer.status == status, answer.text


def test_no_environment_is_found_out_by_its_address(desk: Desk) -> None:
    answers = [
        desk.broker.ask("POST", f"/environments/{name}/token", caller="loader")
        for name in ("fabrikam", "nowhere", "CONTOSO")
    ]
    documents = [answer.json() for answer in answers]
    for document in documents:
        document.pop("request_id")
    assert documents[0] == documents[1] == documents[2]
    assert {a.status for a in answers} == {403}
    assert [desk.record_of(a).environment for a in answers] == [
        "fabrikam",
        "<unknown>",
        "<unknown>",
    ]


# -------------------------------------------------------- nobody gets another's


def test_the_tenant_of_the_address_decides_nothing(desk: Desk) -> None:
    """Two tenants in the path, one caller: the same token, and never one by the path's name."""
    tokens = {
        desk.token(
            {**_fields(desk, "two-ways"), "scope": f"{desk.contoso}/.default"}, path=path
        ).json()["access_token"]
        for path in (
            f"/{TENANT}/oauth2/v2.0/token",
            "/99999999-0000-4000-8000-000000000009/oauth2/v2.0/token",
            "/common/oauth2/v2.0/token",
            "/oauth2/v2.0/token",
            f"/{TENANT}/oauth2/token",
        )
    }
    assert len(tokens) == 1
    assert unverified(tokens.pop())["tid"] == TENANT


def test_tokens_of_environments_and_applications_are_never_mixed_up(desk: Desk) -> None:
    legacy = CLIENT_IDS[OF_LEGACY_JOB]
    expected = {
        ("two-ways", desk.contoso): legacy,
        ("two-ways", desk.fabrikam): legacy,
        ("two-ways", desk.base): "two-ways",
        ("legacy-job", desk.contoso): legacy,
        ("legacy-job", desk.base): "legacy-job",
        ("hasty", desk.base): "hasty",
    }
    # Twice, so that the second round is answered from what the first one left behind.
    for _ in range(2):
        for (caller, resource), subject in expected.items():
            claims = unverified(desk.by_secret(caller, resource).json()["access_token"])
            assert claims["aud"].rstrip("/") == resource
            assert claims.get("appid", claims["sub"]) == subject
    refused(desk.by_secret("legacy-job", desk.fabrikam), "invalid_target")


def test_broker_application_picks_the_grant_and_names_no_other(desk: Desk) -> None:
    fields = {**_fields(desk, "two-ways"), "scope": f"{desk.contoso}/.default"}
    answer = desk.token(fields, headers={"Broker-Application": OF_LEGACY_JOB})
    assert unverified(answer.json()["access_token"])["appid"] == CLIENT_IDS[OF_LEGACY_JOB]
    assert desk.record_of(answer).application == OF_LEGACY_JOB
    answer = desk.token(fields, headers={"Broker-Application": WITH_SECRET})
    refused(answer, "unauthorized_client")
    answer = desk.token(fields, headers={"Broker-Application": "platform-admin"})
    refused(answer, "invalid_target")


@pytest.mark.parametrize("name", ["reader", "Loader", "loader ", "nobody", ""])
def test_a_good_secret_under_another_name_gets_nothing(desk: Desk, name: str) -> None:
    fields = {**_fields(desk), "client_id": name, "scope": f"{desk.base}/.default"}
    answer = desk.token(fields)
    refused(answer, "invalid_client", 401)
    record = desk.record_of(answer)
    # The record says whose secret it was; the answer does not.
    assert (record.decision, record.reason, record.caller, record.token_fingerprint) == (
        "refused",
        "caller-name",
        "loader",
        None,
    )
    basic = base64.b64encode(f"{name}:{desk.broker.keys['loader']}".encode()).decode()
    answer = desk.token(
        {"grant_type": "client_credentials", "scope": f"{desk.base}/.default"},
        headers={"Authorization": f"Basic {basic}"},
    )
    refused(answer, "invalid_client", 401)


@pytest.mark.parametrize("field", ["client_assertion", "subject_token"])
def test_a_good_token_under_another_name_gets_nothing(desk: Desk, field: str) -> None:
    fields = {**as_proof(field, desk.jwt()), "resource": desk.base}
    assert desk.token({**fields, "client_id": "loader"}).status == 200
    answer = desk.token({**fields, "client_id": "reader"})
    assert answer.status in {400, 401}
    assert "access_token" not in answer.text


# ----------------------------------------------- a broker token opens no token endpoint


@pytest.mark.parametrize("resource", ["{broker}", "{broker}/environments/contoso"])
def test_a_broker_token_gets_no_token(desk: Desk, resource: str) -> None:
    token = desk.broker_token("two-ways", resource.format(broker=desk.broker.url))
    assert desk.with_bearer(token).status == 200
    bearer = {"Authorization": f"Bearer {token}"}
    client = {"grant_type": "client_credentials", "scope": f"{desk.contoso}/.default"}
    answers = [
        desk.token({**as_proof("client_assertion", token), "resource": desk.contoso}),
        desk.token({**as_proof("client_assertion", token), "resource": desk.base}),
        desk.token({**client, "client_id": "two-ways", "client_secret": token}),
        desk.token(client, headers=bearer),
    ]
    for answer in answers:
        refused(answer, "invalid_client", 401)
    answer = desk.token({**as_proof("subject_token", token), "resource": desk.base})
    refused(answer, "invalid_request")
    for target in ("/environments/contoso/token", "/environments/fabrikam/token"):
        answer = desk.broker.ask("POST", target, headers=bearer)
        refused(answer, "invalid_client", 401)
        record = desk.record_of(answer)
        assert (record.decision, record.reason, record.token_fingerprint) == (
            "refused",
            "broker-token",
            None,
        )
    answer = desk.broker.ask(
        "GET",
        f"/msi/token?api-version=2019-08-01&resource={desk.base}",
        headers={"X-IDENTITY-HEADER": token},
    )
    refused(answer, "invalid_client", 401)


def test_the_record_names_whose_broker_token_it_was(desk: Desk) -> None:
    bearer = {"Authorization": f"Bearer {desk.broker_token('loader')}"}
    answer = desk.broker.ask("POST", "/environments/contoso/token", headers=bearer)
    assert desk.record_of(answer).caller == "loader"


def test_a_dataverse_token_gets_no_token(desk: Desk) -> None:
    raw = desk.by_secret("two-ways", desk.contoso).json()["access_token"]
    for field in ("client_assertion", "subject_token"):
        answer = desk.token({**as_proof(field, raw), "resource": desk.base})
        assert "access_token" not in answer.text
    assert_stranger(desk.with_bearer(raw))


# ------------------------------------------------------------- managed identity


def test_the_managed_identity_form_is_refused_through_a_proxy(desk: Desk) -> None:
    target = f"/msi/token?api-version=2019-08-01&resource={desk.base}"
    identity = {"X-IDENTITY-HEADER": desk.broker.keys["loader"]}
    assert desk.broker.ask("GET", target, headers=identity).status == 200
    forwarded = {**identity, "X-Forwarded-For": "192.0.2.1"}
    answer = desk.broker.ask("GET", target, headers=forwarded)
    assert answer.status == 400
    assert "access_token" not in answer.text


@pytest.mark.parametrize(
    "target",
    [
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource={base}",
        "/metadata/identity/oauth2/token/?api-version=2018-02-01&resource={base}",
    ],
)
def test_the_form_without_a_credential_is_not_served(desk: Desk, target: str) -> None:
    answer = desk.broker.ask("GET", target.format(base=desk.base), headers={"Metadata": "true"})
    assert answer.status == 401
    assert "access_token" not in answer.text

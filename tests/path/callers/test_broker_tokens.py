"""A broker token at work: at the proxy and the addresses for people, and on the record."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import yaml

from app.tokens.lease import fingerprint_of
from tests.path.running import until

if TYPE_CHECKING:
    import pytest

    from tests.path.callers.conftest import Desk

ACCOUNTS = "/api/data/v9.2/accounts?$select=name&$top=1"


def test_a_broker_token_opens_the_proxy_with_its_callers_rights(desk: Desk) -> None:
    for resource in (desk.broker.url, desk.base):
        token = desk.broker_token("loader", resource)
        for prefix in ("/environments/contoso", ""):
            answer = desk.with_bearer(token, prefix + ACCOUNTS)
            assert (answer.status, answer.header("broker-decision")) == (200, "allowed")
            answer = desk.with_bearer(token, f"{prefix}/api/data/v9.2/accounts?$select=creditlimit")
            assert answer.status == 403


def test_a_token_for_one_environment_opens_no_other(desk: Desk) -> None:
    bound = desk.broker_token("two-ways", desk.base)
    free = desk.broker_token("two-ways")
    there = f"/environments/fabrikam{ACCOUNTS}"
    assert desk.with_bearer(free, there).status == 200
    refused = desk.with_bearer(bound, there)
    nowhere = desk.with_bearer(bound, f"/environments/nowhere{ACCOUNTS}")
    assert refused.status == nowhere.status == 403
    assert refused.json()["detail"] == nowhere.json()["detail"]
    body = {"method": "GET", "url": there}
    for token, decision in ((free, "allowed"), (bound, "refused")):
        answer = desk.broker.ask(
            "POST", "/policy/explain", headers={"Authorization": f"Bearer {token}"}, body=body
        )
        assert answer.json()["decision"] == decision


def test_a_token_for_one_environment_reaches_nothing_that_is_over_all(desk: Desk) -> None:
    bound, free = desk.broker_token("two-ways", desk.base), desk.broker_token("two-ways")
    for target in ("/audit/records", "/callers", "/applications"):
        assert desk.with_bearer(free, target).status == 200
        assert desk.with_bearer(bound, target).status == 403


def test_a_caller_is_told_what_its_token_opens(desk: Desk) -> None:
    answer = desk.with_bearer(desk.broker_token("two-ways", desk.base))
    document = answer.json()
    assert document["caller"] == "two-ways"
    assert document["identity"]["kind"] == "broker_token"
    assert {grant["environment"] for grant in document["grants"]} == {"contoso"}
    assert document["roles"] == []


def test_a_caller_without_grants_reads_the_audit_with_one(desk: Desk) -> None:
    assert desk.with_bearer(desk.broker_token("reader"), "/audit/records").status == 200


def test_the_record_of_a_call_leads_to_that_of_its_tokens_issue(desk: Desk) -> None:
    issued = desk.by_secret("loader", desk.base)
    token = issued.json()["access_token"]
    called = desk.with_bearer(token, f"/environments/contoso{ACCOUNTS}")
    issue, call = desk.record_of(issued), desk.record_of(called)
    assert issue.identity is not None
    assert call.identity is not None
    assert (issue.identity.kind, issue.identity.subject) == ("api_key", "loader")
    assert (call.identity.kind, call.identity.subject) == ("broker_token", issue.id)
    assert (issue.action, issue.decision, issue.outcome) == ("token", "allowed", "completed")
    assert (issue.caller, issue.environment, issue.application) == ("loader", "contoso", None)
    assert (issue.status, issue.method) == (200, "POST")
    assert issue.target is not None
    assert issue.target.endswith("/oauth2/v2.0/token")


def test_the_record_holds_the_fingerprint_and_never_the_token(desk: Desk) -> None:
    for caller, resource in (("two-ways", desk.contoso), ("two-ways", desk.base)):
        answer = desk.by_secret(caller, resource)
        token = answer.json()["access_token"]
        record = desk.record_of(answer)
        assert record.token_fingerprint is not None
        assert len(record.token_fingerprint) == len(fingerprint_of(token))
        for secret in (token, token.split(".")[2], desk.broker.keys[caller]):
            assert secret not in repr(record)


def test_a_refusal_at_a_token_endpoint_is_on_record_with_what_is_known(desk: Desk) -> None:
    answer = desk.by_secret("loader", desk.contoso)
    record = desk.record_of(answer)
    assert (record.action, record.decision, record.reason) == (
        "token",
        "refused",
        "token-not-granted",
    )
    assert (record.caller, record.environment) == ("loader", "contoso")
    answer = desk.token({"grant_type": "password"})
    record = desk.record_of(answer)
    assert (record.action, record.reason) == ("token", "unsupported-grant-type")


def test_the_keys_and_documents_are_published_and_their_reading_recorded(desk: Desk) -> None:
    for target in (
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration",
        f"/{desk.sandbox.tenant_id}/v2.0/.well-known/openid-configuration",
    ):
        answer = desk.broker.ask("GET", target, headers={"Host": "evil.example"})
        assert answer.status == 200
        assert "evil.example" not in answer.text
        record = desk.record_of(answer)
        assert (record.action, record.decision, record.status) == ("admin", "allowed", 200)
    (key,) = desk.broker.ask("GET", "/.well-known/jwks.json").json()["keys"]
    assert (key["kty"], key["alg"], "d" in key) == ("OKP", "EdDSA", False)


def test_a_token_is_revoked_with_its_caller_at_the_next_request(desk: Desk) -> None:
    token = desk.broker_token("gone")
    target = f"/environments/contoso{ACCOUNTS}"
    assert desk.with_bearer(token, target).status == 200
    before = desk.file.read_text()
    configuration = yaml.safe_load(before)
    configuration["callers"]["gone"]["disabled"] = True
    try:
        desk.file.write_text(yaml.safe_dump(configuration))
        until(lambda: desk.with_bearer(token, target).status == 401 or None)
    finally:
        desk.file.write_text(before)
        until(lambda: desk.with_bearer(token, target).status == 200 or None)


def test_a_token_that_has_ended_opens_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    token = desk.broker_token("loader")
    assert desk.with_bearer(token).status == 200
    authenticator = desk.broker.running.authenticator
    monkeypatch.setattr(authenticator, "_now", lambda: time.time() + 901)
    assert desk.with_bearer(token).status == 401


def test_a_token_opens_a_batch_as_a_key_does(desk: Desk) -> None:
    part = "GET accounts?$select=name&$top=1 HTTP/1.1\r\nAccept: application/json\r\n\r\n"
    body = (
        "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        f"{part}\r\n--b--\r\n"
    )
    answer = desk.broker.ask(
        "POST",
        "/environments/contoso/api/data/v9.2/$batch",
        headers={
            "Authorization": f"Bearer {desk.broker_token('loader', desk.base)}",
            "Content-Type": "multipart/mixed; boundary=b",
        },
        body=body,
    )
    assert answer.status == 200
    assert json.loads(answer.text.split("\r\n\r\n")[2].split("\r\n")[0])["value"]

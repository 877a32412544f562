"""What is no proof of a caller: every attack gets the stranger's answer, and is on record."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, get_args

import pytest

from app.identity.refusal import DETAIL, Reason
from tests.path.raw_http import request_bytes
from tests.unit.identity.issuing import (
    ec_key,
    encoded,
    okp_key,
    rsa_key,
    sign,
    signed_with_public_key,
    unsigned,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.path.callers.conftest import Desk
    from tests.path.raw_http import RawAnswer


def assert_stranger(answer: RawAnswer) -> None:
    """One answer for all of them: nothing tells whether the caller exists."""
    assert answer.status == 401, answer.text
    document = answer.json()
    request_id = document.pop("request_id")
    # At proxied addresses it stands in Dataverse's form, too.
    code = "unauthenticated"
    assert document.pop("error", None) in (None, {"code": code, "message": DETAIL})
    assert document == {
        "type": "/problems/unauthenticated",
        "title": "The caller is not known",
        "status": 401,
        "detail": DETAIL,
    }
    headers = {n: v for n, v in answer.headers if n not in {"date", "content-length"}}
    assert headers == {
        "broker-request-id": request_id,
        "broker-decision": "refused",
        "cache-control": "no-store",
        "www-authenticate": 'Bearer realm="dataverse-token-broker"',
        "content-type": "application/problem+json",
    }


def assert_recorded(desk: Desk, answer: RawAnswer) -> None:
    record = desk.record_of(answer)
    assert (record.decision, record.caller) == ("refused", None)
    assert record.reason in get_args(Reason)


def test_the_neighbour_of_every_attack_is_let_in(desk: Desk) -> None:
    for token in (desk.jwt(), desk.entra_jwt(), desk.broker.keys["loader"]):
        answer = desk.with_bearer(token)
        assert (answer.status, answer.json()["caller"]) == (200, "loader")


def payload(desk: Desk) -> bytes:
    return json.dumps(desk.claims()).encode()


def header(**members: object) -> bytes:
    return json.dumps({"alg": "RS256", "kid": "one", **members}).encode()


FORGED: dict[str, Callable[[Desk], bytes]] = {
    "no-algorithm": lambda d: unsigned(header(alg="none"), payload(d)),
    "no-algorithm-in-capitals": lambda d: unsigned(header(alg="NONE"), payload(d), b"x"),
    "no-signature": lambda d: unsigned(header(), payload(d)),
    "hs256-with-the-public-key": lambda d: signed_with_public_key(rsa_key("one"), payload(d)),
    "another-key-of-the-same-name": lambda d: sign(rsa_key("thief"), payload(d), kid="one"),
    "a-kid-that-is-a-path": lambda d: sign(rsa_key("one"), payload(d), kid="../../../dev/null"),
    "a-kid-that-is-sql": lambda d: sign(rsa_key("one"), payload(d), kid="one' OR '1'='1"),
    "jku": lambda d: sign(rsa_key("thief"), payload(d), kid="one", jku="https://evil.example/k"),
    "x5u": lambda d: sign(rsa_key("thief"), payload(d), kid="one", x5u="https://evil.example/k"),
    "jwk": lambda d: sign(
        rsa_key("thief"), payload(d), kid="one", jwk=rsa_key("thief").as_dict(private=False)
    ),
    "crit": lambda d: sign(rsa_key("one"), payload(d), crit=["kid"]),
    "es256": lambda d: sign(ec_key("one"), payload(d), algorithm="ES256", kid="one"),
    "eddsa": lambda d: sign(okp_key("one"), payload(d), algorithm="EdDSA", kid="one"),
    "duplicated-claim": lambda d: sign(
        rsa_key("one"), payload(d)[:-1] + b',"sub":"system:serviceaccount:erp:loader"}'
    ),
    "not-json": lambda _: sign(rsa_key("one"), b"sub=loader"),
    "a-list": lambda _: sign(rsa_key("one"), b'["loader"]'),
    "four-parts": lambda d: d.jwt().encode() + b".x",
    "two-parts": lambda d: d.jwt().encode().rpartition(b".")[0],
    "nothing-but-dots": lambda _: b"..",
}


@pytest.mark.parametrize("attack", FORGED.values(), ids=list(FORGED))
def test_a_forged_token_is_a_strangers(desk: Desk, attack: Callable[[Desk], bytes]) -> None:
    token = attack(desk).decode()
    for target in ("/callers/me", "/environments/contoso/api/data/v9.2/accounts?$select=name"):
        answer = desk.with_bearer(token, target)
        assert_stranger(answer)
        assert_recorded(desk, answer)


CLAIMED: dict[str, dict[str, Any]] = {
    "another-issuer": {"iss": "https://evil.example"},
    "an-issuer-with-a-slash-more": {"iss": "{issuer}/"},
    "the-broker-as-issuer": {"iss": "{broker}"},
    "another-audience": {"aud": "other-service"},
    "the-brokers-url-as-audience": {"aud": "{broker}"},
    "an-array-without-us": {"aud": ["other", "another"]},
    "an-array-with-a-number": {"aud": ["broker", 1]},
    "an-audience-that-is-an-object": {"aud": {"broker": True}},
    "our-audience-as-a-prefix": {"aud": "broker.evil.example"},
    "no-audience": {"aud": None},
    "expired": {"exp": 1_600_000_000},
    "no-end": {"exp": None},
    "an-end-in-words": {"exp": "never"},
    "an-end-beyond-all-numbers": {"exp": 10**400},
    "not-yet-valid": {"nbf": 4_000_000_000},
    "issued-tomorrow": {"iat": 4_000_000_000},
    "another-subject": {"sub": "system:serviceaccount:erp:other"},
    "a-subject-with-a-space": {"sub": "system:serviceaccount:erp:loader "},
    "a-subject-in-look-alikes": {"sub": "system:serviceaccount:erp:l\u043eader"},
    "a-list-of-subjects-with-ours-spelt-otherwise": {"sub": ["SYSTEM:serviceaccount:erp:loader"]},
    "a-users-token": {"scp": "user_impersonation"},
    "an-id-token": {"nonce": "n-0S6_WzA2Mj"},
    "a-token-bound-to-a-key": {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
}


@pytest.mark.parametrize("changed", CLAIMED.values(), ids=list(CLAIMED))
def test_a_token_that_is_not_for_us_is_a_strangers(desk: Desk, changed: dict[str, Any]) -> None:
    names = {"issuer": desk.issuer.url, "broker": desk.broker.url}
    answer = desk.with_bearer(desk.jwt(**{n: _filled(v, names) for n, v in changed.items()}))
    assert_stranger(answer)
    assert_recorded(desk, answer)


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_filled(item, names) for item in value]
    return value.format(**names) if isinstance(value, str) else value


def test_an_audience_in_an_array_with_others_is_for_us(desk: Desk) -> None:
    assert desk.with_bearer(desk.jwt(aud=["api-server", "broker"])).status == 200


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"scp": "user_impersonation", "idtyp": None}, id="a-users-token"),
        pytest.param({"idtyp": "user"}, id="a-user-by-type"),
        pytest.param({"azp": None}, id="no-client"),
        pytest.param(
            {"iss": "{entra}/99999999-0000-4000-8000-000000000009/v2.0", "tid": "9"},
            id="another-tenants-issuer",
        ),
        pytest.param({"iss": "https://sts.windows.net/{tenant}/"}, id="version-1"),
        pytest.param({"azp": "5c2e9d10-7f3a-4b8c-8d6e-1a2b3c4d5e03"}, id="another-application"),
        pytest.param({"aud": "{contoso}"}, id="a-dataverse-token"),
        pytest.param({"aud": "{contoso}/"}, id="a-dataverse-token-with-a-slash"),
        pytest.param({"aud": ["{contoso}", "{fabrikam}"]}, id="for-two-environments"),
    ],
)
def test_a_token_of_entra_for_somebody_or_something_else_is_a_strangers(
    desk: Desk, changed: dict[str, Any]
) -> None:
    names = {
        "entra": desk.sandbox.entra_url,
        "tenant": desk.sandbox.tenant_id,
        "contoso": desk.contoso,
        "fabrikam": desk.fabrikam,
    }
    answer = desk.with_bearer(desk.entra_jwt(**{n: _filled(v, names) for n, v in changed.items()}))
    assert_stranger(answer)
    assert_recorded(desk, answer)


def test_the_raw_token_that_a_caller_was_given_proves_nobody_to_the_broker(desk: Desk) -> None:
    raw = desk.by_secret("two-ways", desk.contoso).json()["access_token"]
    assert_stranger(desk.with_bearer(raw))


# -------------------------------------------------------------------- API keys

KEY_OF = "dvb_loader_"


def mangled(key: str) -> dict[str, str]:
    return {
        "empty": "",
        "a-prefix": key[:-1],
        "the-id-alone": "_".join(key.split("_")[:2]),
        "one-more": key + "0",
        "in-capitals": key.upper(),
        "its-digest": sha256(key.encode()).hexdigest(),
        "another-callers-id": key.replace("_loader_", "_reader_"),
        "a-wildcard": KEY_OF + "*",
        "a-quote": key + "'--",
        "a-space-inside": key[:20] + " " + key[20:],
        "two-keys": f"{key},{key}",
        "nul": key + "\x00",
        "a-cyrillic-letter": key.replace("a", "\u0430"),
        "full-width": "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in key),
        "a-zero-width-space": key + "\u200b",
    }


@pytest.mark.parametrize("name", list(mangled("dvb_x_0")))
@pytest.mark.parametrize("place", ["Authorization", "X-API-Key"])
def test_a_key_that_is_not_the_key_is_a_strangers(desk: Desk, place: str, name: str) -> None:
    value = mangled(desk.broker.keys["loader"])[name]
    sent = f"Bearer {value}" if place == "Authorization" else value
    raw = sent.encode().decode("latin-1")
    answer = desk.broker.ask("GET", "/callers/me", headers={place: raw})
    if name == "nul":
        # The HTTP server refuses it before the broker sees it.
        assert answer.status == 400
    else:
        assert_stranger(answer)


@pytest.mark.parametrize("caller", ["disabled", "expired"])
def test_a_genuine_key_that_counts_no_more_looks_like_one_of_nobody(
    desk: Desk, caller: str
) -> None:
    answer = desk.with_bearer(desk.broker.keys[caller])
    assert_stranger(answer)
    fields = {"grant_type": "client_credentials", "scope": f"{desk.broker.url}/.default"}
    known, unknown = (
        desk.token({**fields, "client_id": name, "client_secret": secret})
        for name, secret in (
            (caller, desk.broker.keys[caller]),
            ("nobody", "dvb_nobody_" + "0" * 64),
        )
    )
    assert known.status == unknown.status == 401
    assert _without_ids(known) == _without_ids(unknown)


def _without_ids(answer: RawAnswer) -> dict[str, object]:
    document: dict[str, object] = answer.json()
    moving = ("request_id", "trace_id", "correlation_id", "timestamp")
    return {name: value for name, value in document.items() if name not in moving}


def test_a_key_in_the_query_is_no_credential_and_goes_on_no_record(desk: Desk) -> None:
    key = desk.broker.keys["loader"]
    for name in ("api_key", "access_token", "code"):
        answer = desk.broker.ask("GET", f"/callers/me?{name}={key}")
        assert_stranger(answer)
        assert key not in repr(desk.record_of(answer))
    answer = desk.broker.ask(
        "POST", f"/{desk.sandbox.tenant_id}/oauth2/v2.0/token?client_secret={key}"
    )
    assert (answer.status, answer.json()["error"]) == (400, "invalid_request")
    assert key not in answer.text + repr(desk.record_of(answer))


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("Authorization", "Bearer {key}")] * 2, id="authorization-twice"),
        pytest.param([("X-API-Key", "{key}")] * 2, id="x-api-key-twice"),
        pytest.param([("Authorization", "Bearer {key}"), ("X-API-Key", "{key}")], id="one-of-each"),
        pytest.param(
            [("authorization", "Bearer x"), ("AUTHORIZATION", "Bearer {key}")], id="two-cases"
        ),
    ],
)
def test_two_credentials_are_no_credential_though_both_are_good(
    desk: Desk, headers: list[tuple[str, str]]
) -> None:
    key = desk.broker.keys["loader"]
    lines = "".join(f"{n}: {v.format(key=key)}\r\n" for n, v in headers)
    with desk.broker.connect() as connection:
        connection.send(f"GET /callers/me HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        answer = connection.answer()
    assert answer.status == 400
    assert answer.json()["type"] in {"/problems/duplicate-header", "/problems/two-credentials"}
    assert desk.record_of(answer).decision == "refused"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("Basic {basic}", id="basic"),
        pytest.param("Digest {key}", id="digest"),
        pytest.param("{key}", id="no-scheme"),
        pytest.param("Bearer", id="no-token"),
        pytest.param("Bearer Bearer {key}", id="the-scheme-twice"),
        pytest.param('Bearer "{key}"', id="in-quotes"),
    ],
)
def test_a_credential_of_another_scheme_is_a_strangers(desk: Desk, value: str) -> None:
    key = desk.broker.keys["loader"]
    basic = base64.b64encode(f"loader:{key}".encode()).decode()
    answer = desk.broker.ask(
        "GET", "/callers/me", headers={"Authorization": value.format(key=key, basic=basic)}
    )
    assert_stranger(answer)


def test_a_token_of_64_kilobytes_is_refused_before_it_is_read(desk: Desk) -> None:
    token = desk.jwt(pad="x" * 48_000)
    assert len(token) > 64_000
    with desk.broker.connect() as connection:
        connection.send(
            request_bytes(
                "GET", "/callers/me", {"Authorization": f"Bearer {token}"}, None, host="x"
            )
        )
        answer = connection.answer()
    # uvicorn's own bound on a head may be the lower one.
    assert answer.status in {400, 401, 431}
    for field in ("client_assertion", "subject_token"):
        answer = desk.token(as_proof(field, token))
        assert answer.status in {400, 401, 413}, answer.text


def as_proof(field: str, token: str) -> dict[str, str]:
    if field == "client_assertion":
        return {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": token,
        }
    return {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": token,
    }


@pytest.mark.parametrize("field", ["client_assertion", "subject_token"])
@pytest.mark.parametrize("attack", FORGED.values(), ids=list(FORGED))
def test_a_forged_token_gets_no_token(
    desk: Desk, field: str, attack: Callable[[Desk], bytes]
) -> None:
    good = desk.token({**as_proof(field, desk.jwt()), "resource": desk.base})
    assert good.status == 200, good.text
    answer = desk.token({**as_proof(field, attack(desk).decode()), "resource": desk.base})
    error = "invalid_client" if field == "client_assertion" else "invalid_request"
    assert answer.json()["error"] == error
    assert "access_token" not in answer.text
    assert desk.record_of(answer).decision == "refused"


def test_a_forwarded_certificate_of_nobodys_proxy_proves_nobody(desk: Desk) -> None:
    for value in ("URI=spiffe://corp/erp/loader", 'Subject="CN=loader"', "DNS=loader"):
        answer = desk.broker.ask("GET", "/callers/me", headers={"X-Forwarded-Client-Cert": value})
        assert_stranger(answer)


def test_a_stolen_signature_under_other_claims_is_a_strangers(desk: Desk) -> None:
    head, _, signature = desk.jwt(sub="somebody").split(".")
    body = encoded(payload(desk)).decode()
    assert_stranger(desk.with_bearer(f"{head}.{body}.{signature}"))

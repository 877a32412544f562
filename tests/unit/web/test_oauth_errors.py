from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from app.errors import BrokerError, NotGranted, Unauthenticated, Unavailable, Unreadable
from app.web.asgi import RequestHead
from app.web.oauth_errors import OAUTH_ERRORS, describe, error_name, oauth_error
from app.web.problems import PROBLEMS

ROOT = Path(__file__).parents[3]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HEAD = RequestHead(
    request_id="0192-id", method="POST", path=b"/t", query=b"", headers=(), peer=None
)


def test_an_error_has_the_form_of_rfc_6749() -> None:
    error = Unauthenticated("unauthenticated", "no credential that the broker knows")
    answer = oauth_error(error, HEAD, shape="environment")
    assert answer.status == 401
    assert json.loads(answer.body) == {
        "error": "invalid_client",
        "error_description": "no credential that the broker knows",
        "request_id": "0192-id",
    }
    assert dict(answer.headers) == {
        b"broker-request-id": b"0192-id",
        b"broker-decision": b"refused",
        b"cache-control": b"no-store",
        b"pragma": b"no-cache",
        b"www-authenticate": b'Bearer realm="dataverse-token-broker"',
        b"content-type": b"application/json",
        b"content-length": str(len(answer.body)).encode(),
    }


def test_entras_own_code_comes_first() -> None:
    error = Unavailable(
        "token-unavailable",
        "no token for application erp: the secret has expired. Add a new one.",
        retry_after_s=9,
        extra={"aadsts": "AADSTS7000222", "application": "erp"},
    )
    answer = oauth_error(error, HEAD, shape="entra", now=NOON)
    assert answer.status == 503
    assert dict(answer.headers)[b"retry-after"] == b"9"
    assert json.loads(answer.body) == {
        "error": "temporarily_unavailable",
        "error_description": "AADSTS7000222: no token for application erp: the secret has "
        "expired. Add a new one.",
        "error_codes": [7000222],
        "timestamp": "2026-11-24 12:00:00Z",
        "trace_id": "0192-id",
        "correlation_id": "0192-id",
        "request_id": "0192-id",
    }


@pytest.mark.parametrize(
    ("error", "environment", "entra"),
    [
        (NotGranted("not-granted", "no"), 403, 400),
        (NotGranted("token-not-granted", "no"), 403, 400),
        (Unauthenticated("unauthenticated", "no"), 401, 401),
        (Unreadable("body-too-large", "no"), 413, 400),
        (BrokerError("rate-limited", "no"), 429, 429),
        (Unavailable("record-unavailable", "no"), 503, 503),
    ],
)
def test_entras_clients_get_entras_statuses(
    error: BrokerError, environment: int, entra: int
) -> None:
    assert oauth_error(error, HEAD, shape="environment").status == environment
    assert oauth_error(error, HEAD, shape="entra").status == entra


@pytest.mark.parametrize(
    ("sent", "challenge"),
    [
        (None, None),
        (b"Basic Zm9vOmJhcg==", b'Basic realm="dataverse-token-broker"'),
        (b"Bearer dvb_x", b'Bearer realm="dataverse-token-broker"'),
    ],
)
def test_who_proves_himself_in_a_header_is_challenged_in_his_scheme(
    sent: bytes | None, challenge: bytes | None
) -> None:
    headers = ((b"authorization", sent),) if sent is not None else ()
    head = structs.replace(HEAD, headers=headers)
    answer = oauth_error(Unauthenticated("unauthenticated", "no"), head, shape="entra")
    assert dict(answer.headers).get(b"www-authenticate") == challenge


def test_an_unlisted_code_tells_nothing() -> None:
    answer = oauth_error(BrokerError("never-heard-of", "hunter2"), HEAD, shape="entra")
    assert answer.status == 500
    assert json.loads(answer.body)["error"] == "server_error"
    assert b"hunter2" not in answer.body


@given(st.text())
def test_a_description_has_only_the_characters_of_rfc_6749(text: str) -> None:
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*", describe(text))


def test_only_listed_codes_are_mapped_and_docs_say_the_same() -> None:
    assert OAUTH_ERRORS.keys() <= PROBLEMS.keys()
    text = (ROOT / "docs" / "errors.md").read_text("utf-8").partition("## At token endpoints")[2]
    documented = {
        code: name
        for name, row in re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
        for code in re.findall(r"`([a-z-]+)`", row)
    }
    assert documented == OAUTH_ERRORS
    assert error_name("bad-json") == "invalid_request"
    assert error_name("upstream-broke") == "server_error"

"""What callers are told when their broker gets no token: the cause, Entra's code, the remedy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from app.sandbox.credentials import OF_LEGACY_JOB, WITH_SECRET
from app.sandbox.dataverse.faults import Fault
from app.sandbox.dataverse.messages import Answer
from app.sandbox.entra import faults
from app.sandbox.entra.refusals import CATALOGUE
from app.tokens.remedies import REMEDIES
from tests.faults.bad_days import ACCOUNTS, day
from tests.path.application_users import set_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.bad_days import Day
    from tests.path.raw_http import RawAnswer

CODES = sorted(REMEDIES.keys() & CATALOGUE.keys())


@pytest.fixture(scope="module")
def whole_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with day(tmp_path_factory.mktemp("explained")) as begun:
        yield begun


@pytest.fixture
def bad(whole_day: Day) -> Iterator[Day]:
    whole_day.sandbox.entra.faults.clear()
    for application in (WITH_SECRET, OF_LEGACY_JOB):
        whole_day.forget_tokens(application)
    yield whole_day
    whole_day.sandbox.entra.faults.clear()
    whole_day.sandbox.dataverse.faults.clear()


def secrets_of(bad: Day) -> list[str]:
    return [a.client_secret for a in bad.sandbox.applications.values() if a.client_secret]


def has_no_secret(bad: Day, answer: RawAnswer) -> None:
    for secret in (*secrets_of(bad), *bad.broker.keys.values(), "eyJ"):
        assert secret not in answer.text


def oauth(bad: Day, path: str = "/oauth2/v2.0/token") -> RawAnswer:
    form = {
        "grant_type": "client_credentials",
        "client_id": "legacy-job",
        "client_secret": bad.broker.keys["legacy-job"],
        "scope": f"{bad.sandbox.environment_url}/.default",
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return bad.broker.ask("POST", path, headers=headers, body=urlencode(form))


def test_every_code_that_the_emulated_entra_knows_is_explained() -> None:
    beyond_credentials = {900144, 9000411, 900561, 70003}
    """How a request must be formed: MSAL's affair."""
    assert set(CATALOGUE) - set(REMEDIES) <= beyond_credentials


@pytest.mark.parametrize("code", CODES)
def test_a_proxied_call_is_told_the_cause_the_code_and_the_remedy(bad: Day, code: int) -> None:
    bad.sandbox.entra.faults.add(faults.refused(code))
    answer = bad.ask()
    assert answer.status == 503
    problem = answer.json()
    known = REMEDIES[code]
    assert problem["type"] == "/problems/token-unavailable"
    assert problem["aadsts"] == f"AADSTS{code}"
    assert problem["cause"] == known.cause.value
    assert problem["remedy"] == known.remedy
    assert problem["application"] == WITH_SECRET
    assert known.meaning in problem["detail"]
    assert answer.header("retry-after") is not None
    assert "Trace ID" not in answer.text, "descriptions of Entra's are not quoted"
    has_no_secret(bad, answer)


@pytest.mark.parametrize("path", ["/oauth2/v2.0/token", "/contoso.example/oauth2/v2.0/token"])
@pytest.mark.parametrize("code", [7000222, 53003, 500011, 90055])
def test_a_token_request_is_told_the_same_as_oauth_tells_it(bad: Day, code: int, path: str) -> None:
    bad.sandbox.entra.faults.add(faults.refused(code))
    answer = oauth(bad, path)
    assert answer.status == 503
    told = answer.json()
    known = REMEDIES[code]
    assert told["error"] == "temporarily_unavailable"
    assert told["error_codes"] == [code]
    assert told["error_description"].startswith(f"AADSTS{code}: ")
    assert known.remedy in told["error_description"]
    assert answer.header("retry-after") is not None
    has_no_secret(bad, answer)


def test_the_environments_own_token_endpoint_tells_it_too(bad: Day) -> None:
    bad.sandbox.entra.faults.add(faults.refused(7000215))
    answer = bad.broker.ask("POST", "/environments/contoso/token", caller="legacy-job")
    assert answer.status == 503
    told = answer.json()
    assert told["error_codes"] == [7000215]
    assert REMEDIES[7000215].remedy in told["error_description"]
    has_no_secret(bad, answer)


def test_what_dataverse_refuses_passes_as_dataverse_says_it(bad: Day) -> None:
    set_user(bad.sandbox, WITH_SECRET, isdisabled=1)
    try:
        answer = bad.ask()
    finally:
        set_user(bad.sandbox, WITH_SECRET, isdisabled=0)
    assert (answer.status, answer.header("broker-decision")) == (403, "allowed")
    assert answer.json() == {
        "error": {"code": "0x80072560", "message": "The user is not a member of the organization."}
    }
    assert bad.ask().status == 200


@pytest.mark.parametrize(
    ("tenant", "resource", "cause"),
    [
        ("8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9099", None, "tenant"),
        (None, "https://contoso2.crm4.dynamics.com/", "environment-url"),
        (None, None, "token-refused"),
    ],
)
def test_a_token_refused_twice_is_explained_by_what_dataverse_says_of_itself(
    bad: Day, tenant: str | None, resource: str | None, cause: str
) -> None:
    login = f"{bad.sandbox.entra_url}/{tenant or bad.sandbox.tenant_id}/oauth2/authorize"
    own = resource or f"{bad.sandbox.environment_url}/"
    challenge = ("WWW-Authenticate", f"Bearer authorization_uri={login}, resource_id={own}")
    bad.sandbox.dataverse.faults.add(
        Fault(answer=Answer(status=401, headers=(challenge,)), times=None, path="/accounts")
    )
    bad.count_from_here()
    answer = bad.ask(target=ACCOUNTS)
    assert answer.status == 502
    problem = answer.json()
    assert problem["type"] == "/problems/upstream-refused-token"
    assert (problem["cause"], problem["application"]) == (cause, WITH_SECRET)
    assert problem["remedy"] in problem["detail"]
    assert answer.header("www-authenticate") is None
    assert bad.token_requests == 2
    has_no_secret(bad, answer)
    assert "authorize" not in json.dumps(problem)

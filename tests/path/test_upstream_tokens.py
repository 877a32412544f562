"""Whose token goes to Dataverse, and what happens when Dataverse does not take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.path.stand_ins import ROW_ID, Arrived, ordinary, says

if TYPE_CHECKING:
    from tests.path.staging import Staged

ROOT = "/environments/prod/api/data/v9.2"
READ = ("GET", f"{ROOT}/accounts?$select=name", "reporting", None)
WRITE = ("PATCH", f"{ROOT}/contacts({ROW_ID})", "crm-writer", {"jobtitle": "x"})
CREATE = ("POST", f"{ROOT}/invoices", "billing-sync", {"name": "x"})
FILTERED = (
    "PATCH",
    f"/environments/dev/api/data/v9.2/new_projects({ROW_ID})",
    "project-portal",
    {"new_name": "x"},
)
UPLOAD = ("PATCH", f"{ROOT}/accounts({ROW_ID})/new_contractfile", "file-writer", b"%PDF")
CHALLENGE = {
    "WWW-Authenticate": "Bearer authorization_uri=https://login.example/t, resource_id=https://x"
}


@pytest.fixture(autouse=True)
def _without_a_past(staged: Staged) -> None:
    """Nobody remembers what Dataverse refused in the test before."""
    forget = staged.broker.running.tokens.forget
    staged.broker.on_loop(lambda: [forget(name) for name in ("crm-app", "crm-app-dev")])


def refuses(*, times: int) -> Any:
    """A Dataverse that takes no token of its first `times` requests."""
    left = [times]

    def answer(arrived: Arrived) -> bytes:
        if left[0] > 0:
            left[0] -= 1
            return says(401, b"", CHALLENGE)
        return ordinary(arrived)

    return answer


def tokens(arrived: list[Arrived]) -> list[str | None]:
    return [a.header("authorization") for a in arrived]


@pytest.mark.parametrize("request_", [READ, WRITE, CREATE, FILTERED])
def test_a_token_that_dataverse_refuses_is_renewed_once(
    staged: Staged, request_: tuple[str, str, str, Any]
) -> None:
    method, target, caller, body = request_
    upstream = staged.environments[staged.environment_of(caller)]
    upstream.answer = refuses(times=1)
    answer = staged.broker.ask(method, target, caller=caller, body=body)
    assert answer.status in {200, 204}
    first, second, *_ = tokens(upstream.arrived)
    assert first is not None
    assert first.startswith("Bearer stand-in.token.")
    assert second != first
    assert upstream.arrived[0].raw.split(b"\r\n")[0] == upstream.arrived[1].raw.split(b"\r\n")[0]
    upstream.clear()
    staged.broker.ask(method, target, caller=caller, body=body)
    assert set(tokens(upstream.arrived)) == {second}


@pytest.mark.parametrize("request_", [READ, WRITE, FILTERED])
def test_a_second_refusal_is_no_fault_of_the_callers(
    staged: Staged, request_: tuple[str, str, str, Any]
) -> None:
    method, target, caller, body = request_
    upstream = staged.environments[staged.environment_of(caller)]
    upstream.answer = refuses(times=9)
    answer = staged.broker.ask(method, target, caller=caller, body=body)
    assert (answer.status, answer.header("broker-decision")) == (502, "error")
    assert answer.json()["type"] == "/problems/upstream-refused-token"
    assert answer.header("www-authenticate") is None
    assert len(upstream.arrived) == 2


def test_a_file_that_has_begun_is_not_sent_twice(staged: Staged) -> None:
    method, target, caller, body = UPLOAD
    staged.prod.answer = refuses(times=1)
    headers = {"x-ms-file-name": "a.pdf", "Content-Type": "application/octet-stream"}
    answer = staged.broker.ask(method, target, caller=caller, headers=headers, body=body)
    assert answer.json()["type"] == "/problems/upstream-refused-token"
    assert len(staged.prod.arrived) == 1
    # The token was thrown away all the same: the next one is another.
    again = staged.broker.ask(method, target, caller=caller, headers=headers, body=body)
    assert again.status == 204
    assert len(set(tokens(staged.prod.arrived))) == 2


def test_dataverse_sees_the_brokers_credential_and_nobody_elses(staged: Staged) -> None:
    own = {"Cookie": "a=b", "X-API-Key": "", "Proxy-Authorization": "Basic eDp5"}
    del own["X-API-Key"]
    method, target, caller, body = WRITE
    staged.broker.ask(method, target, caller=caller, headers=own, body=body)
    [arrived] = staged.prod.arrived
    assert len(arrived.all("authorization")) == 1
    assert staged.broker.keys[caller].encode() not in arrived.raw
    for name in ("cookie", "proxy-authorization", "x-api-key", "x-forwarded-for", "forwarded"):
        assert arrived.header(name) is None


def test_each_environment_gets_the_token_that_was_asked_for_it(staged: Staged) -> None:
    staged.entra.clear()
    forget = staged.broker.running.tokens.forget
    staged.broker.on_loop(lambda: [forget(name) for name in ("crm-app", "crm-app-dev")])
    staged.broker.ask(*READ[:2], caller="reporting")
    staged.broker.ask(
        "GET", "/environments/dev/api/data/v9.2/accounts?$select=name", caller="case-desk"
    )
    bodies = [a.body.decode() for a in staged.entra.arrived if a.method == "POST"]
    assert len(bodies) == 2
    for body, name in zip(bodies, ("prod", "dev"), strict=True):
        port = staged.environments[name].port
        assert f"scope=http%3A%2F%2F127.0.0.1%3A{port}%2F.default" in body
    prod, dev = (tokens(staged.environments[name].arrived) for name in ("prod", "dev"))
    assert set(prod).isdisjoint(dev)

"""A configuration that reaches further than it looks is cautioned against, and a tight one not."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from app.config.cautions import Caution, cautions, cautions_of_caller
from app.config.model import Caller, Configuration

if TYPE_CHECKING:
    from collections.abc import Sequence

TODAY = date(2027, 1, 1)
TIGHT_KEY = {"api_key": {"sha256": "a" * 64, "expires": "2027-12-31"}}
TIGHT_GRANT = {
    "environment": "prod",
    "application": "erp",
    "tables": {"accounts": {"operations": ["read", "update"], "columns": ["name"]}},
    "functions": ["WhoAmI"],
}


def of_caller(**caller: Any) -> list[tuple[str, str]]:
    whole = {"identities": [TIGHT_KEY], "grants": [TIGHT_GRANT], **caller}
    found = cautions_of_caller("loader", Caller.model_validate(whole), today=TODAY)
    assert all(caution.subject == "loader" for caution in found)
    return [(caution.code, caution.text) for caution in found]


def of_grant(**changed: Any) -> list[tuple[str, str]]:
    return of_caller(grants=[{**TIGHT_GRANT, **changed}])


def test_a_tight_caller_is_left_in_peace() -> None:
    assert of_caller() == []


@pytest.mark.parametrize(
    ("changed", "code", "text"),
    [
        ({"issue_token": True}, "token-beside-table-rules", "the token opens everything"),
        ({"issue_token": True, "tables": {}}, "token", "hands out a token"),
        ({"enforce": False}, "not-enforced", "nothing is refused"),
        (
            {"tables": {"*": {"operations": ["read", "delete", "create"]}}},
            "star-writes",
            "'*' allows create, delete on every table",
        ),
        ({"metadata": "all"}, "metadata-all", "the whole schema"),
        ({"actions": ["Merge"]}, "reaches-further", "Merge changes and deactivates rows"),
        (
            {"actions": ["InitializeFileBlocksUpload"]},
            "reaches-further",
            "InitializeFileBlocksUpload writes file columns of any table",
        ),
        (
            {"functions": ["RetrievePrincipalAccess"]},
            "reaches-further",
            "RetrievePrincipalAccess reads rights",
        ),
        (
            {"actions": [{"name": "GrantAccess", "table": "accounts"}]},
            "reaches-further",
            "GrantAccess shares rows of any table",
        ),
        (
            {"actions": [{"name": "new_Close", "table": "accounts"}]},
            "custom-operation",
            "new_Close is code of your own",
        ),
        (
            {"headers": ["MSCRM.BypassCustomPluginExecution"]},
            "skips-logic",
            "MSCRM.BypassCustomPluginExecution skips",
        ),
    ],
)
def test_a_wide_grant_is_cautioned_against(changed: dict[str, Any], code: str, text: str) -> None:
    ((found_code, found_text),) = of_grant(**changed)
    assert found_code == code
    assert found_text.startswith("in prod ")
    assert text in found_text


@pytest.mark.parametrize(
    "changed",
    [
        {"tables": {"*": {"operations": ["read"]}}},
        {"metadata": "none"},
        {"headers": ["MSCRM.SuppressDuplicateDetection"]},
    ],
)
def test_what_is_usual_is_not(changed: dict[str, Any]) -> None:
    assert of_grant(**changed) == []


@pytest.mark.parametrize(
    ("expires", "expected"),
    [
        (None, ["key-without-expiry"]),
        ("2026-12-31", ["key-expired"]),
        ("2027-01-01", ["key-expires-soon"]),
        ("2027-01-31", ["key-expires-soon"]),
        ("2027-02-01", []),
    ],
)
def test_the_end_of_a_key_is_told_ahead(expires: str | None, expected: list[str]) -> None:
    key = {"api_key": {"sha256": "a" * 64, "expires": expires}}
    assert [code for code, _ in of_caller(identities=[key])] == expected


def test_a_caller_that_nobody_can_be_or_that_may_nothing_is_told() -> None:
    assert [code for code, _ in of_caller(identities=[], grants=[])] == ["no-identity", "no-grant"]
    assert of_caller(grants=[], roles=["auditor"]) == []


def configuration(
    *credentials: dict[str, Any], grants: Sequence[dict[str, Any]] = (TIGHT_GRANT,)
) -> Configuration:
    """A caller for each of the grants, all as one application."""
    return Configuration.model_validate(
        {
            "public_url": "https://broker.example",
            "applications": {
                "erp": {
                    "tenant_id": "contoso.example",
                    "client_id": "5c2e9d10-0000-0000-0000-000000000001",
                    "credentials": list(credentials),
                }
            },
            "environments": {"prod": {"url": "https://contoso.crm4.dynamics.com"}},
            "callers": {
                f"caller-{i}": {"identities": [TIGHT_KEY], "grants": [grant]}
                for i, grant in enumerate(grants)
            },
        }
    )


def secret(expires: str | None) -> dict[str, Any]:
    return {"client_secret": {"env": "X"}, "expires": expires}


@pytest.mark.parametrize(
    ("expires", "expected"),
    [
        (None, ["secret-could-be-certificate", "secret-expiry-unknown"]),
        ("2027-06-30", ["secret-could-be-certificate"]),
        ("2028-01-02", ["secret-could-be-certificate"]),
        ("2028-01-03", ["secret-could-be-certificate", "secret-lives-long"]),
        ("2027-01-31", ["secret-could-be-certificate", "secret-expires-soon"]),
        ("2027-01-01", ["secret-could-be-certificate", "secret-expires-soon"]),
        ("2026-12-31", ["secret-could-be-certificate", "secret-expired"]),
        ("graph", ["secret-could-be-certificate"]),
    ],
)
def test_a_client_secret_is_cautioned_against_by_its_life(
    expires: str | None, expected: list[str]
) -> None:
    found = cautions(configuration(secret(expires)), today=TODAY)
    assert [(caution.subject, caution.code) for caution in found] == [
        ("erp", code) for code in expected
    ]


def test_a_certificate_is_not() -> None:
    certificate = {"certificate": {"file": "/run/secrets/erp.pem"}}
    assert cautions(configuration(certificate), today=TODAY) == ()


def test_an_application_of_several_functions_is_told_with_its_callers() -> None:
    certificate = {"certificate": {"file": "/run/secrets/erp.pem"}}
    reader = {**TIGHT_GRANT, "tables": {"accounts": {"operations": ["read"]}}}
    shared = configuration(certificate, grants=[TIGHT_GRANT, reader])
    (caution,) = cautions(shared, today=TODAY)
    assert caution == Caution(
        "application-shared",
        "erp",
        "serves caller-0, caller-1, who do different things: its Dataverse roles must fit them"
        " all, and Dataverse's own audit cannot tell them apart; an app registration for each"
        " function is safer",
    )
    assert str(caution).startswith("erp: serves caller-0")


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"tables": {"accounts": {"operations": ["read", "update"]}}},
        {"functions": []},
        {"limits": {"page_size": 10}},
    ],
    ids=["the-same", "other-columns", "another-function-that-all-may-call", "other-limits"],
)
def test_an_application_of_callers_who_do_the_same_is_left_in_peace(
    changed: dict[str, Any],
) -> None:
    certificate = {"certificate": {"file": "/run/secrets/erp.pem"}}
    shared = configuration(certificate, grants=[TIGHT_GRANT, {**TIGHT_GRANT, **changed}])
    assert cautions(shared, today=TODAY) == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"issue_token": True, "tables": {}},
        {"tables": {"contacts": {"operations": ["read", "update"]}}},
        {"actions": ["Merge"]},
    ],
    ids=["the-token", "another-table", "an-action"],
)
def test_an_application_of_callers_who_do_not_is_told(changed: dict[str, Any]) -> None:
    certificate = {"certificate": {"file": "/run/secrets/erp.pem"}}
    shared = configuration(certificate, grants=[TIGHT_GRANT, {**TIGHT_GRANT, **changed}])
    assert "application-shared" in [caution.code for caution in cautions(shared, today=TODAY)]

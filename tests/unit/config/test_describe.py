"""What a caller may do is told in the words of its grants, nothing more and nothing less."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

import pytest

from app.config.describe import CallerRights, GrantRights, TableRights, render, rights
from app.config.model import Configuration

USER = "e39c5d16-675b-48d1-8e67-667427e9c084"
APPLICATION = {
    "tenant_id": "contoso.example",
    "client_id": "5c2e9d10-0000-0000-0000-000000000001",
    "credentials": [{"client_secret": {"env": "X"}}],
}
LIMITS = {
    "expand_depth": 3,
    "batch_parts": 1000,
    "body_bytes": 16777216,
    "weight": 1,
    "priority": "normal",
}


def configuration(**caller: Any) -> Configuration:
    return Configuration.model_validate(
        {
            "public_url": "https://broker.example",
            "applications": {"erp": APPLICATION, "erp-2": APPLICATION},
            "environments": {
                "prod": {"url": "https://contoso.crm4.dynamics.com"},
                "dev": {"url": "https://contoso-dev.crm4.dynamics.com"},
            },
            "issuers": {"cluster": {"issuer": "https://k8s.example", "audience": "broker"}},
            "callers": {"loader": caller},
        }
    )


FULL: dict[str, Any] = {
    "description": "nightly load",
    "identities": [
        {"api_key": {"sha256": "9f86d081" + "0" * 56, "expires": "2027-06-30"}},
        {"jwt": {"issuer": "cluster", "claims": {"sub": "loader", "roles": ["a", "b"]}}},
        {"certificate": {"san": "spiffe://corp/loader"}},
    ],
    "default_environment": "prod",
    "roles": ["auditor", "operator"],
    "grants": [
        {
            "environment": "prod",
            "application": ["erp", "erp-2"],
            "tables": {
                "accounts": {
                    "operations": ["read", "update"],
                    "columns": ["accountid", "name"],
                    "writable_columns": ["name"],
                    "row_filter": "statecode eq 0",
                },
                "secrets": {"operations": []},
                "*": {"operations": ["read"], "columns": []},
            },
            "functions": ["WhoAmI"],
            "actions": [{"name": "new_Close", "table": "accounts"}],
            "metadata": "all",
            "impersonate": {"caller_id": [USER]},
            "headers": ["MSCRM.SuppressDuplicateDetection"],
            "limits": {"page_size": 500},
        },
        {
            "environment": "dev",
            "application": "erp",
            "enforce": False,
            "issue_token": True,
            "impersonate": {"as": USER},
            "tables": {"contacts": {"operations": ["create"], "columns": ["fullname"]}},
        },
    ],
}


def test_the_structure_holds_every_right() -> None:
    assert rights(configuration(**FULL), "loader") == CallerRights(
        caller="loader",
        description="nightly load",
        disabled=False,
        roles=("auditor", "operator"),
        identities=(
            "API key 9f86d081…, good through 2027-06-30",
            "JWT of cluster with sub = loader and roles = a + b",
            "client certificate spiffe://corp/loader",
        ),
        default_environment="prod",
        grants=(
            GrantRights(
                environment="prod",
                url="https://contoso.crm4.dynamics.com",
                applications=("erp", "erp-2"),
                enforced=True,
                may_hold_dataverse_token=False,
                tables=(
                    TableRights(
                        "accounts",
                        ("read", "update"),
                        ("accountid", "name"),
                        ("name",),
                        "statecode eq 0",
                    ),
                    TableRights("secrets", (), None, (), None),
                    TableRights("*", ("read",), (), (), None),
                ),
                functions=("WhoAmI",),
                actions=("new_Close on accounts",),
                metadata="all",
                impersonates=(USER,),
                headers=("MSCRM.SuppressDuplicateDetection",),
                limits={"page_size": 500, **LIMITS},
            ),
            GrantRights(
                environment="dev",
                url="https://contoso-dev.crm4.dynamics.com",
                applications=("erp",),
                enforced=False,
                may_hold_dataverse_token=True,
                tables=(TableRights("contacts", ("create",), ("fullname",), ("fullname",), None),),
                functions=(),
                actions=(),
                metadata="granted",
                impersonates=f"as {USER}",
                headers=(),
                limits=LIMITS,
            ),
        ),
    )


def test_the_text_says_the_same() -> None:
    assert render(rights(configuration(**FULL), "loader")) == dedent(f"""\
        loader: nightly load
          known by API key 9f86d081…, good through 2027-06-30
          known by JWT of cluster with sub = loader and roles = a + b
          known by client certificate spiffe://corp/loader
          auditor: may read the audit
          operator: may see callers and the status of credentials
          in prod (default), https://contoso.crm4.dynamics.com, as erp or erp-2
            accounts: read, update
              reads accountid, name
              writes name
              rows where statecode eq 0
            secrets: closed
            every other table: read
              reads no column
            function WhoAmI
            action new_Close on accounts
            metadata: all
            may act as {USER}
            headers: MSCRM.SuppressDuplicateDetection
          in dev, https://contoso-dev.crm4.dynamics.com, as erp
            not enforced: what the rules do not allow is recorded, and let through
            may hold the Dataverse token itself, which no rule below can follow
            contacts: create
              writes fullname
            acts as {USER}""")


def test_a_disabled_caller_without_a_grant_is_told_so() -> None:
    text = render(rights(configuration(disabled=True), "loader"))
    assert text == dedent("""\
        loader
          disabled: nothing of the following is open
          no grant: no environment is open""")


@pytest.mark.parametrize(
    ("named", "granted", "expected"),
    [
        (None, ["prod"], "prod"),
        (None, ["prod", "dev"], None),
        ("dev", ["prod", "dev"], "dev"),
        (None, [], None),
    ],
)
def test_the_default_environment_is_the_named_or_the_only_one(
    named: str | None, granted: list[str], expected: str | None
) -> None:
    grants = [{"environment": name, "application": "erp"} for name in granted]
    caller = configuration(default_environment=named, grants=grants)
    assert rights(caller, "loader").default_environment == expected


def test_no_digest_of_a_key_is_told_whole() -> None:
    told = rights(configuration(**FULL), "loader")
    assert "9f86d0810" not in json.dumps(told.as_json()) + render(told)


def test_an_unknown_caller_has_no_rights() -> None:
    with pytest.raises(KeyError):
        rights(configuration(), "nobody")

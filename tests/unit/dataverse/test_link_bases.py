from __future__ import annotations

import pytest

from app.dataverse.link_bases import LinkBases

BROKER = "https://broker.internal.example/environments/contoso"
CONTOSO = LinkBases(environment="https://contoso.crm4.dynamics.com", broker=BROKER)


@pytest.mark.parametrize(
    ("url", "rest"),
    [
        ("https://contoso.crm4.dynamics.com/api/data/v9.2/accounts", "/api/data/v9.2/accounts"),
        ("https://contoso.api.crm4.dynamics.com/api/data/v9.2/accounts", "/api/data/v9.2/accounts"),
        ("HTTPS://CONTOSO.CRM4.dynamics.COM/x", "/x"),
        ("https://contoso.crm4.dynamics.com:443/x", "/x"),
        ("http://contoso.crm4.dynamics.com/x", "/x"),
        ("https://contoso.crm4.dynamics.com", ""),
        ("https://contoso.crm4.dynamics.com?$skiptoken=1", "?$skiptoken=1"),
        (
            "https://contoso.crm4.dynamics.com/x?u=https://elsewhere.example",
            "/x?u=https://elsewhere.example",
        ),
        ("/api/data/v9.2/accounts", "/api/data/v9.2/accounts"),
    ],
)
def test_a_link_to_the_environment_leads_to_the_broker(url: str, rest: str) -> None:
    assert CONTOSO.to_broker(url) == BROKER + rest


@pytest.mark.parametrize(
    "url", ["accounts(1)", "$metadata#accounts", "", "accounts?$skiptoken=a:b"]
)
def test_a_relative_reference_stays_as_it_is(url: str) -> None:
    assert CONTOSO.to_broker(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://fabrikam.crm4.dynamics.com/api/data/v9.2/accounts",
        "https://contoso.crm.dynamics.com/x",
        "https://contoso.crm4.dynamics.com.elsewhere.example/x",
        "https://contoso.crm4.dynamics.com@elsewhere.example/x",
        "https://user@contoso.crm4.dynamics.com/x",
        "https://contoso.crm4.dynamics.com:8443/x",
        "https://contoso.crm4.dynamics.com\\@elsewhere.example/x",
        "//elsewhere.example/x",
        "/\\elsewhere.example/x",
        "\\\\elsewhere.example/x",
        "https:/elsewhere.example/x",
        " https://contoso.crm4.dynamics.com/x",
        "\thttps://elsewhere.example",
        "javascript:alert(1)",
        "ftp://contoso.crm4.dynamics.com/x",
    ],
)
def test_a_link_elsewhere_is_none(url: str) -> None:
    assert CONTOSO.to_broker(url) is None


def test_an_environment_on_a_port_and_a_path_is_only_that_port_and_path() -> None:
    bases = LinkBases(environment="https://localhost:8443/org", broker=BROKER)
    assert (
        bases.to_broker("https://localhost:8443/org/api/data/v9.2/x") == BROKER + "/api/data/v9.2/x"
    )
    assert bases.to_broker("https://localhost/org/api/data/v9.2/x") is None
    assert bases.to_broker("https://localhost:8443/organised/api") is None
    assert bases.to_broker("https://localhost:8443/other/api") is None


def test_an_environment_named_with_api_is_the_one_without() -> None:
    bases = LinkBases(environment="https://contoso.api.crm.dynamics.com", broker=BROKER)
    assert bases.to_broker("https://contoso.crm.dynamics.com/x") == BROKER + "/x"
    assert bases.to_broker("https://contoso.api.crm.dynamics.com/x") == BROKER + "/x"

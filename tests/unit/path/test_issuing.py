"""The resource says which token, in every spelling that clients use and in no other."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.model import Configuration
from app.errors import NotGranted, Unreadable
from app.path.giving import Given
from app.path.issuing import BrokerToken, Order, RawToken, Resources, order, wanted_by
from app.tokens.hidden import Hidden

BROKER = "https://broker.example/dataverse"
NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)


def configuration(**callers: Any) -> Configuration:
    environments = {
        "contoso": {"url": "https://contoso.crm4.dynamics.com"},
        "contoso-reports": {"url": "https://contoso.crm4.dynamics.com"},
        "fabrikam": {"url": "https://fabrikam.api.crm.dynamics.com"},
        "sandbox": {"url": "https://127.0.0.1:8443"},
    }
    return Configuration.model_validate(
        {"public_url": BROKER, "environments": environments, "callers": callers}
    )


RESOURCES = Resources(configuration())
CONTOSO = RawToken(("contoso", "contoso-reports"))


@pytest.mark.parametrize(
    ("resource", "wanted"),
    [
        ("https://contoso.crm4.dynamics.com", CONTOSO),
        ("https://contoso.crm4.dynamics.com/", CONTOSO),
        ("https://contoso.crm4.dynamics.com/.default", CONTOSO),
        ("https://contoso.crm4.dynamics.com//.default", CONTOSO),
        ("https://contoso.crm4.dynamics.com:443", CONTOSO),
        ("HTTPS://Contoso.CRM4.dynamics.com/", CONTOSO),
        ("https://contoso.api.crm4.dynamics.com/", CONTOSO),
        ("https://fabrikam.crm.dynamics.com", RawToken(("fabrikam",))),
        ("https://fabrikam.api.crm.dynamics.com", RawToken(("fabrikam",))),
        ("https://127.0.0.1:8443/", RawToken(("sandbox",))),
        (BROKER, BrokerToken(None)),
        (f"{BROKER}/", BrokerToken(None)),
        (f"{BROKER}/.default", BrokerToken(None)),
        (f"{BROKER}/environments/contoso", BrokerToken("contoso")),
        (f"{BROKER}/environments/contoso/", BrokerToken("contoso")),
        (f"{BROKER}/environments/contoso/.default", BrokerToken("contoso")),
        (f"{BROKER}/environments/contoso-reports", BrokerToken("contoso-reports")),
        ("https://broker.example", BrokerToken(None)),
        ("https://broker.example/", BrokerToken(None)),
        ("https://BROKER.example:443", BrokerToken(None)),
    ],
)
def test_a_spelling_of_what_is_configured_names_it(
    resource: str, wanted: RawToken | BrokerToken
) -> None:
    assert RESOURCES.named(resource) == wanted


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "/.default",
        "contoso",
        "contoso.crm4.dynamics.com",
        "//contoso.crm4.dynamics.com",
        "http://contoso.crm4.dynamics.com",
        "https://contoso.crm4.dynamics.com:8443",
        "https://contoso.crm4.dynamics.com:0443",
        "https://contoso.crm4.dynamics.com.",
        "https://contoso.crm4.dynamics.com//",
        "https://contoso.crm4.dynamics.com/api/data/v9.2",
        "https://contoso.crm4.dynamics.com?x=1",
        "https://contoso.crm4.dynamics.com#x",
        "https://contoso.crm4.dynamics.com\\@evil.example",
        "https://contoso.crm4.dynamics.com@evil.example",
        "https://user@contoso.crm4.dynamics.com",
        "https://contoso.crm4.dynamics.com.evil.example",
        "https://evil.example/https://contoso.crm4.dynamics.com",
        "https://contoso.api.api.crm4.dynamics.com.evil",
        "https://contoso.crm.dynamics.com",
        "https://contoso.crm4.dynamics.com/.default/.default",
        "https://contoso.crm4.dynamics.com /",
        " https://contoso.crm4.dynamics.com",
        "https://contoso.crm4.dynamics.com\n",
        "https://contoso.crm4.dynamics.c\u043em",
        "https://\uff43ontoso.crm4.dynamics.com",
        "https://contoso%2ecrm4.dynamics.com",
        "https://evil/.default",
        "https://broker.example/dataverse/environments",
        "https://broker.example/dataverse/environments/",
        "https://broker.example/dataverse/environments/nowhere",
        "https://broker.example/dataverse/environments/Contoso",
        "https://broker.example/dataverse/environments/contoso/../fabrikam",
        "https://broker.example/dataverse/environments/../environments/contoso",
        "https://broker.example/dataverse/environments/%63ontoso",
        "https://broker.example/dataverse//environments/contoso",
        "https://broker.example/dataverse/environments/contoso//",
        "https://broker.example/Dataverse",
        "https://broker.example/environments/contoso",
        "http://broker.example/dataverse",
        "https://broker.example" + "/" * 4096,
        "api://dataverse-token-broker",
    ],
)
def test_anything_else_names_nothing(resource: str) -> None:
    with pytest.raises(NotGranted) as caught:
        RESOURCES.named(resource)
    assert caught.value.code == "not-granted"
    assert not resource or resource not in caught.value.detail


@given(st.text())
def test_no_text_breaks_the_reader_or_is_quoted(resource: str) -> None:
    with pytest.raises(NotGranted):
        RESOURCES.named("https://contoso.crm4.dynamics.com" + resource.replace("/", "x") + "!")


def caller(*grants: tuple[str, Any, bool], default: str | None = None) -> Any:
    config = configuration(
        loader={
            "default_environment": default,
            "grants": [
                {"environment": environment, "application": application, "issue_token": raw}
                for environment, application, raw in grants
            ],
        }
    )
    return config.callers["loader"]


def ordered(
    who: Any,
    resource: str | None,
    *,
    addressed: str | None = None,
    application: str | None = None,
) -> Order:
    wanted = wanted_by(who, RESOURCES, addressed=addressed, resource=resource)
    return order(who, wanted, public_url=BROKER, addressed=addressed, application=application)


def refusal(who: Any, resource: str | None, **more: Any) -> tuple[str, str]:
    with pytest.raises(NotGranted) as caught:
        ordered(who, resource, **more)
    return caught.value.code, caught.value.detail


SANDBOX = "https://127.0.0.1:8443"


def test_the_raw_token_needs_its_own_right_and_its_refusal_names_the_way() -> None:
    holder = caller(("sandbox", "erp", True))
    got = ordered(holder, SANDBOX)
    assert got == Order(RawToken(("sandbox",)), "sandbox", "erp", holder.grants[0])
    code, detail = refusal(caller(("sandbox", "erp", False)), SANDBOX)
    assert code == "token-not-granted"
    assert f"{BROKER}/environments/sandbox/.default" in detail


def test_an_environment_without_a_grant_looks_like_one_that_does_not_exist() -> None:
    who = caller(("sandbox", "erp", True))
    unknown = refusal(who, "https://nowhere.crm4.dynamics.com")
    assert refusal(who, "https://fabrikam.crm.dynamics.com") == unknown
    assert refusal(who, f"{BROKER}/environments/fabrikam") == unknown
    assert refusal(who, f"{BROKER}/environments/nowhere") == unknown


def test_a_broker_token_needs_no_more_than_a_grant_there() -> None:
    who = caller(("sandbox", "erp", False))
    bound = ordered(who, f"{BROKER}/environments/sandbox")
    assert bound == Order(BrokerToken("sandbox"), "sandbox", None, who.grants[0])
    assert ordered(who, BROKER) == Order(BrokerToken(None), None, None, None)


def test_a_caller_without_grants_may_have_a_token_for_the_other_addresses() -> None:
    assert ordered(caller(), BROKER).wanted == BrokerToken(None)


def test_without_a_resource_the_address_or_the_default_says_where() -> None:
    both = caller(("sandbox", "a", True), ("fabrikam", "b", True), default="fabrikam")
    assert ordered(both, None).environment == "fabrikam"
    assert ordered(both, None, addressed="sandbox").environment == "sandbox"
    assert ordered(caller(("sandbox", "a", True)), None).environment == "sandbox"
    with pytest.raises(Unreadable) as caught:
        ordered(caller(("sandbox", "a", True), ("fabrikam", "b", True)), None)
    assert caught.value.code == "no-default-environment"


def test_an_address_and_a_resource_must_mean_the_same_environment() -> None:
    both = caller(("sandbox", "a", True), ("fabrikam", "b", True))
    assert ordered(both, SANDBOX, addressed="sandbox").environment == "sandbox"
    for resource in (SANDBOX, f"{BROKER}/environments/sandbox"):
        assert refusal(both, resource, addressed="fabrikam")[0] == "not-granted"
    assert ordered(both, BROKER, addressed="fabrikam").wanted == BrokerToken(None)


def test_of_two_names_for_one_url_the_granted_one_counts() -> None:
    url = "https://contoso.crm4.dynamics.com"
    assert ordered(caller(("contoso-reports", "r", True)), url).environment == "contoso-reports"
    both = caller(("contoso", "c", True), ("contoso-reports", "r", True), default="contoso-reports")
    assert ordered(both, url).application == "r"
    assert ordered(both, url, addressed="contoso").application == "c"
    only_reports = caller(("contoso-reports", "r", True))
    assert refusal(only_reports, url, addressed="contoso")[0] == "not-granted"


def test_broker_application_picks_among_the_grants() -> None:
    who = caller(("sandbox", "a", False), ("sandbox", ["b", "c"], True))
    # Without it: the first that may.
    assert ordered(who, SANDBOX).application == "b"
    assert ordered(who, SANDBOX, application="c").application == "c"
    assert refusal(who, SANDBOX, application="a")[0] == "token-not-granted"
    assert refusal(who, SANDBOX, application="d")[0] == "not-granted"
    bound = f"{BROKER}/environments/sandbox"
    assert ordered(who, bound, application="b").grant is who.grants[1]
    assert refusal(who, bound, application="d")[0] == "not-granted"
    assert refusal(who, BROKER, application="d")[0] == "not-granted"


def test_a_given_token_shows_itself_nowhere() -> None:
    shown = Given(
        Hidden("hunter2"), expires_on=NOON, resource=BROKER, application=None, issued_at=NOON
    )
    assert shown.access_token() == "hunter2"
    assert "hunter2" not in repr(shown) + str(shown)
    with pytest.raises(TypeError):
        pickle.dumps(shown)
    with pytest.raises(TypeError):
        msgspec.json.encode(shown)

from __future__ import annotations

import pytest

from app.config.model import Configuration
from app.doctor.choice import Choice, NothingChosen, choose

CONFIGURATION = Configuration.model_validate(
    {
        "public_url": "https://broker.example",
        "applications": {
            name: {
                "tenant_id": "contoso.example",
                "client_id": f"5c2e9d10-0000-0000-0000-00000000000{number}",
                "credentials": [{"client_secret": {"env": "X"}}],
            }
            for number, name in enumerate(("erp", "crm", "admin", "idle"))
        },
        "environments": {
            "prod": {"url": "https://prod.crm4.dynamics.com", "administrator": "admin"},
            "dev": {"url": "https://dev.crm4.dynamics.com"},
        },
        "callers": {
            "a": {
                "grants": [
                    {"environment": "prod", "application": ["erp", "crm"]},
                    {"environment": "dev", "application": "crm"},
                ]
            },
            "b": {"grants": [{"environment": "prod", "application": "erp"}]},
        },
    }
)


def chosen(environment: str | None = None, application: str | None = None) -> Choice:
    return choose(CONFIGURATION, environment=environment, application=application)


def pairs(choice: Choice) -> list[tuple[str, str]]:
    return [(pair.application, pair.environment) for pair in choice.pairs]


def test_everything_is_chosen_unless_somebody_says_otherwise() -> None:
    choice = chosen()
    assert choice.applications == ("erp", "crm", "admin", "idle")
    assert choice.environments == ("prod", "dev")
    assert pairs(choice) == [
        ("erp", "prod"), ("crm", "prod"), ("admin", "prod"), ("crm", "dev"),
    ]  # fmt: skip
    first = choice.pairs[0]
    assert [(caller, place) for caller, place, _ in first.grants] == [("a", 0), ("b", 0)]
    assert [pair.is_administrator for pair in choice.pairs] == [False, False, True, False]


def test_an_environment_brings_its_applications() -> None:
    choice = chosen("dev")
    assert (choice.applications, choice.environments) == (("crm",), ("dev",))


def test_an_application_brings_its_environments() -> None:
    choice = chosen(application="crm")
    assert (choice.applications, choice.environments) == (("crm",), ("prod", "dev"))
    alone = chosen(application="idle")
    assert (alone.applications, alone.environments, alone.pairs) == (("idle",), (), ())


@pytest.mark.parametrize(
    ("environment", "application", "said"),
    [
        ("prd", None, "no such environment: prd; did you mean 'prod'"),
        (None, "erq", "no such application: erq"),
        ("dev", "erp", "no grant lets anybody be erp in dev"),
    ],
)
def test_what_there_is_not_is_refused(
    environment: str | None, application: str | None, said: str
) -> None:
    with pytest.raises(NothingChosen, match=said):
        chosen(environment, application)

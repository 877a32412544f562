"""An application user is seen and switched by the environment's administrator, and nobody else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from app.cli.main import app
from app.doctor.finding import Level
from app.sandbox.credentials import WITH_SECRET
from tests.path.application_users import as_nobody, set_user
from tests.path.examining import Patient, the, without_administrator

if TYPE_CHECKING:
    from typer.testing import Result


def run(patient: Patient, *arguments: str) -> Result:
    return CliRunner().invoke(
        app,
        ["app-user", *arguments],
        env={"BROKER_CONFIG": str(patient.config)},
        catch_exceptions=False,
    )


def listed(patient: Patient) -> dict[str | None, dict[str, Any]]:
    done = run(patient, "list", "--json")
    assert done.exit_code == 0, done.output
    return {user["application"]: user for user in json.loads(done.stdout)}


def test_application_users_are_listed_with_state_and_roles(patient: Patient) -> None:
    patient.configure()
    users = listed(patient)
    assert set(users) == {"erp-invoices", "erp-reporting", "erp-legacy", "platform-admin", None}
    erp = users[WITH_SECRET]
    assert (erp["disabled"], erp["roles"]) == (False, ["Invoice Integration"])
    assert users[None]["name"] == "# managed-identity"
    shown = run(patient, "list").stdout
    assert "Invoice Integration" in shown


def test_a_disabled_user_is_shut_out_until_he_is_enabled(patient: Patient) -> None:
    patient.configure()
    try:
        done = run(patient, "disable", WITH_SECRET)
        assert done.exit_code == 0
        assert "is disabled: Dataverse refuses its tokens from now on" in done.stdout
        assert the(patient.examined(), "application-user", Level.FAILURE).text == "it is disabled"
        assert listed(patient)[WITH_SECRET]["disabled"]
        assert run(patient, "enable", WITH_SECRET, "--environment", "contoso").exit_code == 0
        assert the(patient.examined(), "application-user", Level.OK).remedy is None
    finally:
        set_user(patient.sandbox, WITH_SECRET, isdisabled=0)


def test_an_environment_without_an_administrator_has_nobody_to_switch(patient: Patient) -> None:
    patient.configure(without_administrator)
    done = run(patient, "disable", WITH_SECRET)
    assert done.exit_code == 3
    assert "environments.contoso.administrator" in done.stderr


def test_a_user_that_is_not_there_cannot_be_switched(patient: Patient) -> None:
    patient.configure()
    with as_nobody(patient.sandbox, WITH_SECRET):
        done = run(patient, "disable", WITH_SECRET)
    assert done.exit_code == 3
    assert "has no application user of erp-invoices" in done.stderr
    assert run(patient, "disable", "nobody").exit_code == 3

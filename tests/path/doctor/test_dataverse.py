"""What Dataverse makes of an application is told: its user, roles, privileges, limits."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from app.doctor.finding import Level
from app.sandbox.credentials import WITH_SECRET
from app.sandbox.dataverse import faults as dataverse_faults
from app.sandbox.dataverse.faults import Fault
from app.sandbox.dataverse.messages import Answer
from app.sandbox.dataverse.rights import SYSTEM_ADMINISTRATOR
from tests.path.application_users import as_nobody, set_roles, set_user
from tests.path.examining import (
    Patient,
    of_step,
    the,
    without_administrator,
    wrong,
)

if TYPE_CHECKING:
    from tests.path.staging import Configuration


def test_a_user_who_is_no_member_is_told_and_how_he_becomes_one(patient: Patient) -> None:
    with as_nobody(patient.sandbox, WITH_SECRET):
        findings = patient.examined()
    assert wrong(findings) == [
        ("who-am-i", "failure", "0x80072560"),
        ("application-user", "failure", None),
    ]
    told = the(findings, "application-user", Level.FAILURE)
    assert told.text == "there is none for this application"
    assert "Application users, New" in (told.remedy or "")


def test_a_user_who_is_disabled_is_told_from_one_who_is_not_there(patient: Patient) -> None:
    set_user(patient.sandbox, WITH_SECRET, isdisabled=1)
    try:
        findings = patient.examined()
        unadministered = patient.examined(without_administrator)
    finally:
        set_user(patient.sandbox, WITH_SECRET, isdisabled=0)
    told = the(findings, "application-user", Level.FAILURE)
    assert told.text == "it is disabled"
    assert "token-broker app-user enable" in (told.remedy or "")
    vague = the(unadministered, "application-user", Level.FAILURE)
    assert vague.text == "there is none for this application, or it is disabled"


def test_a_missing_privilege_is_named(patient: Patient) -> None:
    def change(configuration: Configuration) -> None:
        (grant,) = configuration["callers"]["invoice-loader"]["grants"]
        grant["tables"]["accounts"]["operations"].append("delete")
        grant["tables"]["contacts"] = {"operations": ["read", "assign"]}

    findings = patient.examined(change)
    told = the(findings, "privileges", Level.FAILURE)
    assert told.names == ("prvAssignContact", "prvDeleteAccount")
    assert "invoice-loader" in told.text
    assert told.code == "0x80040220"


def test_privileges_that_no_grant_needs_are_named_the_worst_first(patient: Patient) -> None:
    told = the(patient.examined(), "privileges", Level.WARNING)
    assert told.names == (
        "prvCreateInvoiceDetail",
        "prvWriteInvoiceDetail",
        "prvAppendAccount",
        "prvAppendContact",
        "prvAppendInvoiceDetail",
        "prvAppendToContact",
        "prvAppendToInvoice",
        "prvAppendToInvoiceDetail",
        "prvReadContact",
        "prvReadInvoiceDetail",
    )
    assert told.text.startswith(
        "10 privileges that no caller's grant needs: prvCreateInvoiceDetail"
    )


def test_a_system_administrator_is_warned_of_once(patient: Patient) -> None:
    with set_roles(patient.sandbox, WITH_SECRET, SYSTEM_ADMINISTRATOR):
        findings = patient.examined()
    assert wrong(findings) == [("roles", "warning", None)]
    assert "token-broker roles plan" in (the(findings, "roles", Level.WARNING).remedy or "")


def test_an_administrator_of_the_environment_may_be_one(patient: Patient) -> None:
    findings = patient.examined(application="platform-admin")
    assert wrong(findings) == []


def test_a_user_who_may_not_see_himself_is_looked_at_by_the_administrator(
    patient: Patient,
) -> None:
    with set_roles(patient.sandbox, WITH_SECRET, "Delegate"):
        findings = patient.examined()
        unadministered = patient.examined(without_administrator)
    told = the(findings, "privileges", Level.FAILURE)
    assert "prvReadAccount" in told.names
    for step in ("roles", "privileges"):
        assert the(unadministered, step, Level.SKIPPED).remedy
    assert of_step(unadministered, "application-user")[0].level is Level.OK


def test_a_table_that_the_schema_does_not_have_is_named(patient: Patient) -> None:
    def change(configuration: Configuration) -> None:
        (grant,) = configuration["callers"]["invoice-loader"]["grants"]
        grant["tables"]["acounts"] = {"operations": ["read"]}
        grant["tables"]["invoices"]["columns"].append("totl")

    told = the(patient.examined(change), "tables", Level.FAILURE)
    assert told.names == (
        "invoice-loader: the schema knows no column totl; did you mean totaltax?",
        "invoice-loader: the schema knows no table acounts; did you mean accounts?",
    )


@pytest.mark.parametrize(
    ("fault", "level", "code", "said"),
    [
        (
            dataverse_faults.answers(429, retry_after_s=37, times=None),
            Level.WARNING,
            "0x80072322",
            "Retry-After: 37 s",
        ),
        (dataverse_faults.answers(503, times=None), Level.FAILURE, None, "service health"),
        (
            dataverse_faults.broken(dataverse_faults.Break.RESET, times=None),
            Level.FAILURE,
            "upstream-broke",
            "dns and tls",
        ),
    ],
    ids=["throttled", "unavailable", "broken"],
)
def test_a_dataverse_that_does_not_answer_as_it_should_is_told(
    patient: Patient, fault: Fault, level: Level, code: str | None, said: str
) -> None:
    patient.sandbox.dataverse.faults.add(dataclasses.replace(fault, path="WhoAmI"))
    told = the(patient.examined(), "who-am-i", level)
    assert code is None or told.code == code
    assert said in (told.remedy or "")


def test_a_token_that_dataverse_does_not_accept_is_explained_by_its_challenge(
    patient: Patient,
) -> None:
    login = f"https://login.microsoftonline.com/{'8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9099'}/oauth2"
    own = f"{patient.sandbox.environment_url}/"
    challenge = ("WWW-Authenticate", f"Bearer authorization_uri={login}, resource_id={own}")
    answer = Answer(status=401, headers=(challenge,))
    patient.sandbox.dataverse.faults.add(Fault(answer=answer, times=None, path="WhoAmI"))
    told = the(patient.examined(), "who-am-i", Level.FAILURE)
    assert told.code == "tenant"
    assert "belongs to the tenant 8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9099" in told.text

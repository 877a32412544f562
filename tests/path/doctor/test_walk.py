"""A chain is walked to its end, whatever is wrong with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.doctor.choice import NothingChosen
from app.doctor.finding import STEPS, Level
from app.sandbox.credentials import WITH_SECRET
from tests.path.examining import (
    TOO_MUCH,
    Patient,
    has_no_secret,
    of_step,
    registered,
    the,
    wrong,
)

if TYPE_CHECKING:
    from tests.path.staging import Configuration

# ------------------------------------------------------------------------ as it should be


def test_a_chain_that_holds_is_walked_to_its_end(patient: Patient) -> None:
    findings = patient.examined()
    assert wrong(findings) == [TOO_MUCH]
    assert {f.step for f in findings} == set(STEPS)
    assert [f.level for f in findings if f.level is Level.SKIPPED] == []
    has_no_secret(patient, findings)


def test_all_applications_and_environments_are_looked_at_unless_told_otherwise(
    patient: Patient,
) -> None:
    findings = patient.examined(application=None)
    subjects = list(dict.fromkeys(f.subject for f in findings))
    assert subjects == [
        "configuration",
        "erp-invoices",
        "erp-reporting",
        "erp-legacy",
        "platform-admin",
        "Entra of erp-invoices, erp-reporting, erp-legacy, platform-admin",
        "contoso",
        "erp-invoices in contoso",
        "erp-reporting in contoso",
        "erp-legacy in contoso",
        "platform-admin in contoso",
        "audit",
    ]
    assert Level.FAILURE not in {f.level for f in findings}


def test_a_name_that_there_is_not_is_an_error_with_those_that_there_are(patient: Patient) -> None:
    with pytest.raises(NothingChosen, match="did you mean 'erp-invoices'"):
        patient.examined(application="erp-invoice")
    with pytest.raises(NothingChosen, match="no such environment"):
        patient.examined(environment="nowhere")


def test_dataverse_is_only_read(patient: Patient) -> None:
    journal = patient.sandbox.dataverse.journal
    before = journal.total
    patient.examined(application=None)
    asked = list(journal)[before - journal.total :]
    assert {arrival.method for arrival in asked} == {"GET"}


# ---------------------------------------------------------------------- the record


def test_a_record_that_cannot_be_kept_is_told(patient: Patient) -> None:
    missing = patient.folder / "gone" / "audit.db"
    findings = patient.examined(audit_url=f"sqlite:///{missing}")
    assert ("audit", "failure", None) in wrong(findings)
    broken = patient.folder / "broken.db"
    broken.write_bytes(b"no database" * 100)
    told = the(patient.examined(audit_url=f"sqlite:///{broken}"), "audit", Level.FAILURE)
    assert "file is not a database" in told.text
    told = the(patient.examined(audit_url="mysql://x"), "audit", Level.FAILURE)
    assert told.code == "audit-url-invalid"


def test_a_configuration_that_cannot_be_read_leaves_the_record_to_look_at(
    patient: Patient,
) -> None:
    patient.configure()

    def change(configuration: Configuration) -> None:
        configuration["public_url"] = 7

    findings = patient.examined(change)
    assert wrong(findings) == [("configuration", "failure", "configuration-invalid")]
    assert of_step(findings, "audit")


# --------------------------------------------------------------------- the command


def run(patient: Patient, *arguments: str) -> Any:
    environ = {
        "BROKER_CONFIG": str(patient.config),
        "BROKER_AUDIT_URL": f"sqlite:///{patient.folder / 'audit.db'}",
    }
    return CliRunner().invoke(app, ["doctor", *arguments], env=environ, catch_exceptions=False)


def test_the_exit_code_is_that_of_the_worst_line(patient: Patient) -> None:
    patient.configure()
    assert run(patient, "--application", "platform-admin").exit_code == 0
    assert run(patient, "--application", WITH_SECRET).exit_code == 4
    registered(patient).enabled = False
    assert run(patient, "--application", WITH_SECRET).exit_code == 1
    assert run(patient, "--application", "nobody").exit_code == 3


def test_the_lines_are_for_people_and_for_programs(patient: Patient) -> None:
    patient.configure()
    shown = run(patient, "--application", WITH_SECRET)
    assert "erp-invoices in contoso\n" in shown.stdout
    assert "  warning privileges       10 privileges that no caller's grant needs" in shown.stdout
    assert "► Take them out" in shown.stdout
    told = json.loads(run(patient, "--application", WITH_SECRET, "--json").stdout)
    assert told["worst"] == "warning"
    (line,) = [one for one in told["lines"] if one["level"] == "warning"]
    assert set(line) == {"step", "subject", "level", "text", "remedy", "names"}
    assert len(line["names"]) == 10

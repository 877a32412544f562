"""What Entra refuses is named, with what to do; secrets and their ends are judged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from app.doctor.finding import STEPS, Level
from app.sandbox.credentials import WITH_CERTIFICATE, WITH_SECRET, self_signed_pem
from app.sandbox.entra import faults
from app.sandbox.entra.directory import ClientSecret
from tests.path.examining import (
    Patient,
    erp,
    has_no_secret,
    of_step,
    registered,
    the,
    wrong,
)

if TYPE_CHECKING:
    from tests.path.staging import Configuration


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (7000215, "Put the secret's value into the configuration, not its id"),
        (7000222, "Create a new secret (or better, a certificate)"),
        (700016, "Compare client_id and tenant_id"),
        (7000112, "Somebody switched it off"),
        (53003, "Find the policy in Entra's sign-in log"),
        (65001, "An administrator grants consent"),
        (500011, "Check the environment's url"),
        (7000229, "az ad sp create"),
    ],
)
def test_what_entra_refuses_is_explained_and_the_rest_is_looked_at(
    patient: Patient, code: int, said: str
) -> None:
    patient.sandbox.entra.faults.add(faults.refused(code, client_id=client_id(patient)))
    findings = patient.examined()
    assert wrong(findings) == [("token", "failure", f"AADSTS{code}")]
    failure = the(findings, "token", Level.FAILURE)
    assert said in (failure.remedy or "")
    skipped = [f.step for f in findings if f.level is Level.SKIPPED]
    assert skipped == list(STEPS[STEPS.index("claims") : STEPS.index("audit")])
    assert of_step(findings, "tls")
    assert of_step(findings, "audit")
    has_no_secret(patient, findings)


def client_id(patient: Patient) -> str:
    return patient.sandbox.applications[WITH_SECRET].client_id


def wrong_secret(patient: Patient, _configuration: Configuration) -> None:
    (patient.folder / "erp-invoices.secret").write_text("hunter2")


def secret_id_instead_of_its_value(patient: Patient, _configuration: Configuration) -> None:
    secret_id = "0c5f2f4e-6a0f-4b0e-8f57-9a8f4f1d7d10"
    (patient.folder / "erp-invoices.secret").write_text(secret_id)


def expired_secret(patient: Patient, _configuration: Configuration) -> None:
    (secret,) = registered(patient).secrets
    ended = datetime.now(UTC) - timedelta(days=1)
    registered(patient).secrets = (ClientSecret(value=secret.value, expires=ended),)


def wrong_tenant(_patient: Patient, configuration: Configuration) -> None:
    erp(configuration)["tenant_id"] = "8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9099"


def unknown_application(_patient: Patient, configuration: Configuration) -> None:
    erp(configuration)["client_id"] = "5c2e9d10-7f3a-4b8c-8d6e-1a2b3c4d5eff"


def disabled_application(patient: Patient, _configuration: Configuration) -> None:
    registered(patient).enabled = False


def certificate_of_somebody_else(patient: Patient, configuration: Configuration) -> None:
    pem = patient.folder / "stranger.pem"
    pem.write_bytes(self_signed_pem(common_name="stranger", now=datetime.now(UTC)))
    erp(configuration)["credentials"] = [{"certificate": {"file": "stranger.pem"}}]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (wrong_secret, "AADSTS7000215"),
        (secret_id_instead_of_its_value, "AADSTS7000215"),
        (expired_secret, "AADSTS7000222"),
        (wrong_tenant, "AADSTS90002"),
        (unknown_application, "AADSTS700016"),
        (disabled_application, "AADSTS7000112"),
        (certificate_of_somebody_else, "AADSTS700027"),
    ],
    ids=lambda value: getattr(value, "__name__", value).replace("_", "-"),
)
def test_what_is_really_wrong_with_an_application_is_named(
    patient: Patient, spoil: Any, code: str
) -> None:
    findings = patient.examined(lambda configuration: spoil(patient, configuration))
    assert wrong(findings) == [("token", "failure", code)]
    has_no_secret(patient, findings)


def test_a_second_credential_that_works_makes_the_first_ones_refusal_a_warning(
    patient: Patient,
) -> None:
    def change(configuration: Configuration) -> None:
        (patient.folder / "old.secret").write_text("hunter2")
        old = {"client_secret": {"file": "old.secret"}, "expires": "2099-01-01"}
        erp(configuration)["credentials"].insert(0, old)

    findings = patient.examined(change)
    assert ("token", "warning", "AADSTS7000215") in wrong(findings)
    assert of_step(findings, "who-am-i")[0].level is Level.OK


def test_an_entra_that_is_down_is_told_once(patient: Patient) -> None:
    patient.sandbox.entra.faults.add(faults.down())
    findings = patient.examined()
    assert wrong(findings) == [("token", "failure", "entra-unreachable")]


# ----------------------------------------------------------- secrets and their ends


def file_is_missing(patient: Patient, _configuration: Configuration) -> None:
    (patient.folder / "erp-invoices.secret").unlink()


def test_a_secret_that_cannot_be_read_is_named_with_its_place(patient: Patient) -> None:
    findings = patient.examined(lambda c: file_is_missing(patient, c))
    assert wrong(findings) == [
        ("configuration", "failure", "configuration-invalid"),
        ("secret", "failure", None),
    ]
    told = the(findings, "configuration", Level.FAILURE)
    assert "broker.yaml:" in told.text
    assert "erp-invoices.secret cannot be read" in told.text
    skipped = the(findings, "token", Level.SKIPPED)
    assert skipped.text == "no credential can be read"


@pytest.mark.parametrize(
    ("expires", "wanted"),
    [
        (timedelta(days=400), ("warning", "secret-lives-long")),
        (timedelta(days=20), ("warning", None)),
        (timedelta(days=-1), ("failure", None)),
        (None, ("advice", "secret-expiry-unknown")),
    ],
    ids=["more-than-a-year", "soon", "ended", "unknown"],
)
def test_the_end_of_a_secret_is_judged(
    patient: Patient, expires: timedelta | None, wanted: tuple[str, str | None]
) -> None:
    def change(configuration: Configuration) -> None:
        (credential,) = erp(configuration)["credentials"]
        if expires is None:
            del credential["expires"]
        else:
            credential["expires"] = (datetime.now(UTC) + expires).date()

    findings = of_step(patient.examined(change), "credential")
    assert wanted in [(f.level.value, f.code) for f in findings]
    assert "secret-could-be-certificate" in [f.code for f in findings]


def test_a_certificate_is_not_told_to_be_something_safer(patient: Patient) -> None:
    findings = patient.examined(application=WITH_CERTIFICATE)
    assert [f.level for f in of_step(findings, "credential")] == [Level.OK]


def test_a_certificate_that_ends_soon_or_has_ended_is_told(patient: Patient) -> None:
    def change(days: int) -> Any:
        def changed(configuration: Configuration) -> None:
            pem = self_signed_pem(
                common_name="x", now=datetime.now(UTC), valid_for=timedelta(days=days, minutes=-30)
            )
            (patient.folder / "short.pem").write_bytes(pem)
            erp(configuration)["credentials"] = [{"certificate": {"file": "short.pem"}}]

        return changed

    soon = the(patient.examined(change(10)), "credential", Level.WARNING)
    assert "9 days from now" in soon.text
    ended = the(patient.examined(change(0)), "credential", Level.FAILURE)
    assert "has expired" in ended.text


def test_a_token_file_is_told_as_a_federated_credential_must_have_it(patient: Patient) -> None:
    from app.sandbox.entra.jws import b64url

    claims = {
        "iss": "https://oidc.example/cluster/",
        "sub": "system:serviceaccount:erp:broker",
        "aud": ["api://AzureADTokenExchange"],
        "exp": 4102444800,
    }
    token = f"eyJ0.{b64url(json.dumps(claims).encode())}.hunter2"
    (patient.folder / "token").write_text(token)

    def change(configuration: Configuration) -> None:
        erp(configuration)["credentials"] = [{"federated_token": {"file": "token"}}]

    findings = patient.examined(change)
    (told,) = of_step(findings, "credential")
    assert (
        "iss https://oidc.example/cluster/, sub system:serviceaccount:erp:broker, "
        "aud api://AzureADTokenExchange" in told.text
    )
    has_no_secret(patient, findings)

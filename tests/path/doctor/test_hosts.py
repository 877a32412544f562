"""A host that is not found, not reached, or somebody else is named."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trustme

from app.doctor.finding import Level
from tests.path.examining import (
    Patient,
    contoso,
    the,
    wrong,
)
from tests.path.tls_servers import context_for, server_of

if TYPE_CHECKING:
    from tests.path.staging import Configuration


def test_a_name_that_does_not_resolve_is_told_and_the_application_examined(
    patient: Patient,
) -> None:
    def change(configuration: Configuration) -> None:
        contoso(configuration)["url"] = "https://contoso.invalid"

    findings = patient.examined(change)
    assert ("dns", "failure", None) in wrong(findings)
    told = the(findings, "dns", Level.FAILURE)
    assert told.subject == "contoso"
    assert told.text == "contoso.invalid cannot be resolved"
    assert the(findings, "token", Level.FAILURE).code == "AADSTS500011"


@pytest.fixture
def ca(patient: Patient) -> trustme.CA:
    made = trustme.CA()
    (patient.folder / "own-ca.pem").write_bytes(made.cert_pem.bytes())
    return made


PAST = datetime(2021, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("shown", "trusted", "said"),
    [
        (
            ("other.example", None),
            True,
            "127.0.0.1 shows the certificate of another host (other.example)",
        ),
        (("127.0.0.1", PAST), True, "the certificate of 127.0.0.1 has expired"),
        (
            ("127.0.0.1", None),
            False,
            "the certificate of 127.0.0.1 is signed by nobody whom the broker trusts",
        ),
    ],
    ids=["another-host", "expired", "unknown-ca"],
)
def test_a_certificate_that_is_not_the_hosts_own_is_told(
    patient: Patient,
    ca: trustme.CA,
    shown: tuple[str, datetime | None],
    trusted: bool,  # noqa: FBT001
    said: str,
) -> None:
    name, ends = shown
    with server_of(context_for(ca, name, ends=ends)) as port:

        def change(configuration: Configuration) -> None:
            contoso(configuration)["url"] = f"https://127.0.0.1:{port}"
            if trusted:
                contoso(configuration)["ca_file"] = "own-ca.pem"

        findings = patient.examined(change)
    told = the(findings, "tls", Level.FAILURE)
    assert (told.subject, told.text) == ("contoso", said)
    assert told.remedy


def test_a_host_that_does_not_listen_is_told(patient: Patient) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def change(configuration: Configuration) -> None:
        contoso(configuration)["url"] = f"https://127.0.0.1:{port}"

    told = the(patient.examined(change), "tls", Level.FAILURE)
    assert told.text == f"nothing listens at 127.0.0.1:{port}"


def test_a_ca_file_that_is_not_there_is_told(patient: Patient) -> None:
    def change(configuration: Configuration) -> None:
        contoso(configuration)["ca_file"] = "gone.pem"

    findings = patient.examined(change)
    assert [(s, c) for s, level, c in wrong(findings) if level == "failure"] == [
        ("configuration", "configuration-invalid"),
        ("tls", None),
        ("who-am-i", "ca-file-invalid"),
    ]

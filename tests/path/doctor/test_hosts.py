"""A host that is not found, not reached, or somebody else is named."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
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

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@contextlib.contextmanager
def server_of(context: ssl.SSLContext) -> Iterator[str]:
    """Speaks TLS with whoever comes, and says no word more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    connection.settimeout(5)
                    with contextlib.suppress(OSError):
                        context.wrap_socket(connection, server_side=True).close()
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            with contextlib.suppress(OSError):
                socket.create_connection(listener.getsockname(), timeout=1).close()
            thread.join(5)


def context_for(ca: trustme.CA, *names: str, ends: datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names, not_after=ends).configure_cert(context)
    return context


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
    with server_of(context_for(ca, name, ends=ends)) as url:

        def change(configuration: Configuration) -> None:
            contoso(configuration)["url"] = url
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

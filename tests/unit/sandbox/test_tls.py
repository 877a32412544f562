from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from app.sandbox.tls import SandboxIncomplete, server_identity, write_private

if TYPE_CHECKING:
    from pathlib import Path


def test_a_server_is_known_by_both_names_of_loopback(tmp_path: Path) -> None:
    identity = server_identity(tmp_path)
    certificate = x509.load_pem_x509_certificates(identity.certificate_file.read_bytes())[0]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["127.0.0.1", "localhost"]
    assert identity.server_context().minimum_version is ssl.TLSVersion.TLSv1_2
    assert identity.client_context().verify_mode is ssl.CERT_REQUIRED


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    server_identity(tmp_path / "state")
    modes = {file.name: file.stat().st_mode & 0o077 for file in (tmp_path / "state").iterdir()}
    del modes["ca.pem"]
    assert modes == {"ca-key.pem": 0, "server.pem": 0}


def test_a_ca_stays_and_its_servers_change(tmp_path: Path) -> None:
    first = server_identity(tmp_path)
    ca, server = first.ca_file.read_bytes(), first.certificate_file.read_bytes()
    second = server_identity(tmp_path)
    assert second.ca_file.read_bytes() == ca
    assert second.certificate_file.read_bytes() != server
    assert server_identity(tmp_path / "other").ca_file.read_bytes() != ca


def test_a_private_file_replaces_one_that_was_open_to_all(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(b"old")
    file.chmod(0o644)
    write_private(file, b"new")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o600)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(SandboxIncomplete, match=r"dataverse-token-broker\[sandbox\]"):
        server_identity(tmp_path)

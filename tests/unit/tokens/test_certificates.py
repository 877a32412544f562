from __future__ import annotations

import base64
import pickle
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st

from app.tokens.certificates import CertificateUnusable, SigningCertificate, read_certificate
from tests.unit.tokens.fakes import NOON, Issued, issue

if TYPE_CHECKING:
    from cryptography import x509


@pytest.fixture(scope="module")
def own() -> Issued:
    return issue("erp")


@pytest.fixture(scope="module")
def other() -> Issued:
    return issue("other")


def pfx(own: Issued, passphrase: str | None, others: list[x509.Certificate] | None = None) -> bytes:
    protection: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    )
    return pkcs12.serialize_key_and_certificates(
        b"erp", own.key, own.certificate, others, protection
    )


def encrypted_key(own: Issued, form: PrivateFormat) -> bytes:
    return own.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"opens"))


def check(found: SigningCertificate, own: Issued) -> None:
    assert found.thumbprint == own.certificate.fingerprint(hashes.SHA256()).hex()
    assert found.thumbprint_sha1 == own.certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303
    assert found.not_after == NOON + timedelta(days=365)
    assert found.chain_pem.encode().startswith(own.certificate_pem)
    assert found.key.open().private_numbers() == own.key.private_numbers()


def test_a_pem_is_read_in_whatever_order(own: Issued, other: Issued) -> None:
    key, certificate, above = own.key_pem, own.certificate_pem, other.certificate_pem
    for content in (
        key + certificate,
        certificate + key,
        key + certificate + above,
        above + certificate + key,
        b"# a note\n" + certificate + b"\n\n" + key.replace(b"\n", b"\r\n"),
    ):
        check(read_certificate(content), own)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_opens_with_its_passphrase(own: Issued, form: PrivateFormat) -> None:
    content = encrypted_key(own, form) + own.certificate_pem
    check(read_certificate(content, "opens"), own)
    with pytest.raises(CertificateUnusable, match="passphrase is wrong"):
        read_certificate(content, "does not")
    with pytest.raises(CertificateUnusable, match="no passphrase is configured"):
        read_certificate(content)


def test_a_passphrase_that_a_pem_does_not_need_does_no_harm(own: Issued) -> None:
    check(read_certificate(own.key_pem + own.certificate_pem, "needless"), own)


def test_a_pfx_opens_with_its_passphrase(own: Issued, other: Issued) -> None:
    content = pfx(own, "opens", [other.certificate])
    check(read_certificate(content, "opens"), own)
    with pytest.raises(CertificateUnusable, match="is the passphrase right"):
        read_certificate(content, "does not")
    with pytest.raises(CertificateUnusable, match="does it need a passphrase"):
        read_certificate(content)


def test_a_pfx_without_passphrase_is_read_as_bytes_and_as_base64(own: Issued) -> None:
    content = pfx(own, None)
    check(read_certificate(content), own)
    check(read_certificate(base64.b64encode(content)), own)
    check(read_certificate(base64.encodebytes(content)), own)


def test_a_certificate_without_its_key_is_refused(own: Issued, other: Issued) -> None:
    for content, says in (
        (own.certificate_pem, "private key cannot be read"),
        (own.key_pem, "holds no certificate"),
        (own.key_pem + other.certificate_pem, "no certificate in it belongs"),
        (pfx_without_key(own), "lacks the private key"),
    ):
        with pytest.raises(CertificateUnusable, match=says):
            read_certificate(content)


def pfx_without_key(own: Issued) -> bytes:
    return pkcs12.serialize_key_and_certificates(
        None, None, None, [own.certificate], NoEncryption()
    )


def test_a_key_that_entra_does_not_take_is_refused(own: Issued) -> None:
    small = issue("small", bits=1024)
    with pytest.raises(CertificateUnusable, match="less than 2048 bits"):
        read_certificate(small.key_pem + small.certificate_pem)
    elliptic = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(CertificateUnusable, match="not RSA"):
        read_certificate(elliptic + own.certificate_pem)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: b"-----BEGIN " + b))
def test_anything_else_is_refused_and_not_quoted(content: bytes) -> None:
    with pytest.raises(CertificateUnusable) as caught:
        read_certificate(content)
    assert len(str(caught.value)) < 120


def test_a_certificate_does_not_show_its_key(own: Issued) -> None:
    found = read_certificate(own.key_pem + own.certificate_pem)
    assert "PRIVATE" not in repr(found)
    assert "BEGIN" not in str(found)
    with pytest.raises(TypeError):
        pickle.dumps(found)

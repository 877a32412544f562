"""The broker believes a certificate that a trusted proxy forwards, one and well written."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.model import Caller as CallerConfig
from app.errors import BrokerError, Unreadable
from app.identity.caller import Caller, IdentityRef
from app.identity.certificates import (
    HEADER,
    Certificates,
    ForwardedCertificate,
    read_forwarded_certificate,
)
from app.identity.refusal import Unrecognised
from app.identity.uses import Uses

LOADER = "spiffe://corp/erp/loader"


def read(text: bytes) -> ForwardedCertificate | None:
    return read_forwarded_certificate([(b"host", b"x"), (HEADER, text)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"URI=spiffe://a/b", ForwardedCertificate(("spiffe://a/b",)), id="uri"),
        pytest.param(
            b"By=spiffe://p;Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;"
            b'Subject="/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client";URI=spiffe://a/b',
            ForwardedCertificate(("spiffe://a/b",)),
            id="envoys-own-example",
        ),
        pytest.param(
            b"Hash=1;URI=spiffe://a;DNS=A.example;DNS=b.example",
            ForwardedCertificate(("spiffe://a",), ("a.example", "b.example")),
            id="several-names",
        ),
        pytest.param(b"hash=1;uri=u://x", ForwardedCertificate(("u://x",)), id="lower-case-keys"),
        pytest.param(b'URI="u://a,b;c=d"', ForwardedCertificate(("u://a,b;c=d",)), id="quoted"),
        pytest.param(b'URI="u://a\\"b"', ForwardedCertificate(('u://a"b',)), id="escaped-quote"),
        pytest.param(
            b'Subject="CN=a\\, b";URI=u://x', ForwardedCertificate(("u://x",)), id="escaped-subject"
        ),
        pytest.param(b"Hash=1;URI=", ForwardedCertificate(), id="no-name"),
    ],
)
def test_one_well_written_element_is_read(text: bytes, expected: ForwardedCertificate) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"URI=u://forged,URI=u://real", id="two-elements"),
        pytest.param(b"URI=u://a;", id="open-end"),
        pytest.param(b";URI=u://a", id="open-begin"),
        pytest.param(b"URI", id="no-value"),
        pytest.param(b"URI =u://a", id="space-in-key"),
        pytest.param(b'URI="u://a', id="open-quote"),
        pytest.param(b'URI="u://a"x', id="text-behind-quote"),
        pytest.param(b'URI="u://a\\x"', id="unknown-escape"),
        pytest.param(b"URI=u://a\\b", id="bare-backslash"),
        pytest.param(b'Subject=CN="x";URI=u://a', id="quote-inside-bare"),
        pytest.param(b"Nonsense=1;URI=u://a", id="unknown-key"),
        pytest.param(b"Hash=1;Hash=2;URI=u://a", id="hash-twice"),
        pytest.param(b'Subject="a";URI=u://x";URI=u://a', id="quote-trick"),
        pytest.param(b"URI=u://\xc3\xa9", id="not-ascii"),
        pytest.param(b"URI=u://a\x00", id="nul"),
        pytest.param(b"URI=" + b"a" * 40_000, id="too-long"),
    ],
)
def test_anything_else_is_nobody(text: bytes) -> None:
    with pytest.raises(Unrecognised) as caught:
        read(text)
    assert caught.value.reason == "certificate-malformed"


def test_a_header_given_twice_is_unreadable() -> None:
    with pytest.raises(Unreadable) as caught:
        read_forwarded_certificate([(HEADER, b"URI=u://a"), (HEADER, b"URI=u://a")])
    assert caught.value.code == "duplicate-header"


def test_no_header_is_no_certificate() -> None:
    assert read_forwarded_certificate([(b"host", b"x")]) is None


def config(*names: str, disabled: bool = False) -> CallerConfig:
    identities = [{"certificate": {"san": name}} for name in names]
    return CallerConfig.model_validate({"identities": identities, "disabled": disabled})


def test_a_certificate_is_the_caller_that_its_name_stands_for() -> None:
    entry = config(LOADER, "loader.example")
    certificates = Certificates({"loader": entry, "other": config("spiffe://corp/other")}, Uses())
    for certificate, shown in [
        (ForwardedCertificate((LOADER,)), LOADER),
        (ForwardedCertificate((), ("loader.example",)), "loader.example"),
        (ForwardedCertificate(("u://else", LOADER), ("loader.example",)), LOADER),
    ]:
        expected = Caller("loader", IdentityRef("certificate", shown), entry)
        assert certificates.caller(certificate, now=0.0) == expected


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        pytest.param(ForwardedCertificate(), "certificate-matches-nobody", id="no-name"),
        pytest.param(
            ForwardedCertificate((LOADER + "/x",)), "certificate-matches-nobody", id="longer"
        ),
        pytest.param(
            ForwardedCertificate((LOADER.upper(),)), "certificate-matches-nobody", id="other-case"
        ),
        pytest.param(
            ForwardedCertificate((), (LOADER,)), "certificate-matches-nobody", id="uri-as-dns-name"
        ),
        pytest.param(
            ForwardedCertificate((LOADER, "spiffe://corp/other")),
            "certificate-matches-several",
            id="two-callers",
        ),
        pytest.param(ForwardedCertificate(("spiffe://off",)), "caller-disabled", id="disabled"),
    ],
)
def test_a_certificate_of_nobody_or_of_two_is_refused(
    certificate: ForwardedCertificate, reason: str
) -> None:
    certificates = Certificates(
        {
            "loader": config(LOADER),
            "other": config("spiffe://corp/other"),
            "off": config("spiffe://off", disabled=True),
        },
        Uses(),
    )
    with pytest.raises(Unrecognised) as caught:
        certificates.caller(certificate, now=0.0)
    assert caught.value.reason == reason


@given(st.text(alphabet=st.sampled_from('URIDNSHash=;,"\\ :/.ab'), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BrokerError):
        read(text.encode())


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_a_quoted_name_arrives_as_it_was(name: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    assert read(f'URI="{quoted}"'.encode()) == ForwardedCertificate((name,))

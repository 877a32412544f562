"""A host is looked for as the broker would look for it, through a proxy too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trustme

from app.doctor.finding import About, Finding
from app.doctor.reach import Host, examine_host
from tests.path.tls_servers import context_for, proxy_to, server_of, serving

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(ca: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.write_bytes(ca.cert_pem.bytes())
    return file


def examined(
    url: str, trusted: Path | None = None, environ: Mapping[str, str] | None = None
) -> list[Finding]:
    host = Host(url, trusted)
    return list(examine_host(About("x"), host, environ=environ or {}, now=NOW))


def told(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.step, finding.level.value) for finding in findings]


def test_a_host_that_is_who_it_should_be_is_well(ca: trustme.CA, trusted: Path) -> None:
    with server_of(context_for(ca, "localhost")) as port:
        findings = examined(f"https://localhost:{port}", trusted)
    assert told(findings) == [("dns", "ok"), ("tls", "ok")]
    assert "localhost speaks TLSv1.3" in findings[1].text


def test_a_certificate_that_ends_within_days_is_warned_of(ca: trustme.CA, trusted: Path) -> None:
    with server_of(context_for(ca, "127.0.0.1", ends=NOW + timedelta(days=3))) as port:
        findings = examined(f"https://127.0.0.1:{port}", trusted)
    assert told(findings) == [("dns", "ok"), ("tls", "warning")]


def test_plain_http_has_no_certificate_to_look_at() -> None:
    assert told(examined("http://127.0.0.1:1")) == [("dns", "ok"), ("tls", "ok")]


def test_a_way_through_a_proxy_is_walked_to_the_host(ca: trustme.CA, trusted: Path) -> None:
    with server_of(context_for(ca, "contoso.example")) as port, proxy_to(port) as (proxy, asked):
        environ = {"HTTPS_PROXY": f"http://user:hunter2@127.0.0.1:{proxy}"}
        findings = examined("https://contoso.example", trusted, environ)
    assert told(findings) == [("dns", "ok"), ("tls", "ok")]
    assert findings[0].text == "the proxy 127.0.0.1 is an address already"
    assert asked[0].startswith(b"CONNECT contoso.example:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " in asked[0]
    assert "hunter2" not in repr(findings)


def test_a_host_that_the_proxy_is_not_for_is_asked_itself(ca: trustme.CA, trusted: Path) -> None:
    with server_of(context_for(ca, "127.0.0.1")) as port:
        environ = {"HTTPS_PROXY": "http://nowhere.invalid:3128", "NO_PROXY": "127.0.0.1"}
        findings = examined(f"https://127.0.0.1:{port}", trusted, environ)
    assert told(findings) == [("dns", "ok"), ("tls", "ok")]


def test_a_proxy_that_refuses_is_told_apart_from_the_host(trusted: Path) -> None:
    with proxy_to(1, status=b"407 Proxy Authentication Required") as (proxy, _):
        environ = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy}"}
        _, tls = examined("https://contoso.example", trusted, environ)
    assert tls.level.value == "failure"
    assert tls.text == "the proxy 127.0.0.1 answers 407 instead of opening a way to contoso.example"


def test_a_proxy_that_cannot_be_used_is_told() -> None:
    (dns,) = examined("https://contoso.example", environ={"HTTPS_PROXY": "socks5://x:1"})
    assert (dns.step, dns.code) == ("dns", "proxy-unusable")


def test_a_host_that_speaks_no_tls_is_told(trusted: Path) -> None:
    def mumble(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(mumble) as port:
        _, tls = examined(f"https://127.0.0.1:{port}", trusted)
    assert tls.text == "127.0.0.1 does not speak TLS as it should"


def test_what_another_host_shows_is_written_safely(ca: trustme.CA, trusted: Path) -> None:
    with server_of(context_for(ca, "other.example", "10.0.0.1")) as port:
        _, tls = examined(f"https://127.0.0.1:{port}", trusted)
    assert tls.text == ("127.0.0.1 shows the certificate of another host (other.example, 10.0.0.1)")

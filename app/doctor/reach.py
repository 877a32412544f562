"""Whether a host is found, reached, and is who it should be. Blocking: run it in a thread."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cryptography import x509

from app.dataverse.client import tls_context
from app.dataverse.proxies import proxy_for
from app.doctor.finding import several
from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from app.dataverse.proxies import HttpProxy
    from app.doctor.finding import About, Finding

TIMEOUT_S: Final = 5.0
CERTIFICATE_ENDS_SOON: Final = timedelta(days=7)
"""Of the host's own certificate: whoever runs it usually renews it before."""

_ANOTHER_HOST: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_EXPIRED: Final = 10
_NOT_YET: Final = 9

_DNS = (
    "Look for a typing mistake in the url; then at this machine's DNS (in Kubernetes: may the pod"
    " reach the cluster's DNS, and does that resolve outside names?)."
)
_ROUTE = (
    "Look at the firewall and the network policy on the way, and at HTTPS_PROXY and NO_PROXY"
    " where a proxy leads outside."
)


class _NoWay(Exception):
    """The connection did not come about; says why, and what to do."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text)
        self.text = text
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Host:
    """`trusted`: the CAs that whoever speaks to it trusts; None: those of the system."""

    url: str
    trusted: Path | None

    @property
    def name(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def secure(self) -> bool:
        return self.url.startswith("https:")


def examine_host(
    about: About, host: Host, *, environ: Mapping[str, str], now: datetime
) -> Iterator[Finding]:
    try:
        proxy = proxy_for(host.name, host.port, environ) if host.secure else None
    except Misconfigured as error:
        yield about.failure("dns", error.detail, "Correct the variable.", code=error.code)
        return
    nearest = (host.name, host.port) if proxy is None else (proxy.host, proxy.port)
    resolved = _resolve(about, *nearest, through=proxy is not None)
    yield resolved
    if not host.secure:
        yield about.ok("tls", f"{host.name} is plain http, which only loopback may be")
        return
    try:
        yield _tls(about, host, proxy, now)
    except _NoWay as no_way:
        yield about.failure("tls", no_way.text, no_way.remedy)


def _resolve(about: About, name: str, port: int, *, through: bool) -> Finding:
    what = f"the proxy {name}" if through else name
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return about.ok("dns", f"{what} is an address already")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return about.failure("dns", f"{what} cannot be resolved", _DNS)
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    return about.ok("dns", f"{what} is {several(addresses, shown=2)}", names=addresses)


def _tls(about: About, host: Host, proxy: HttpProxy | None, now: datetime) -> Finding:
    try:
        context = tls_context(host.trusted)
    except OSError as error:
        raise _NoWay(
            f"the CA file {host.trusted} cannot be used", "Mount it, or correct the ca_file."
        ) from error
    with _connected(host, proxy) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host.name) as secured:
                certificate = secured.getpeercert() or {}
                version = secured.version() or "TLS"
        except ssl.SSLCertVerificationError as error:
            raise _unverified(host, proxy, error) from error
        except (OSError, ValueError) as error:
            raise _NoWay(
                f"{host.name} does not speak TLS as it should",
                "Is it the right port, and is nothing in between that takes TLS apart?",
            ) from error
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    text = f"{host.name} speaks {version}, its certificate is good until {ends:%Y-%m-%d}"
    if ends - now <= CERTIFICATE_ENDS_SOON:
        return about.warning("tls", text, "Whoever runs it must renew it.")
    return about.ok("tls", text)


@contextlib.contextmanager
def _connected(host: Host, proxy: HttpProxy | None) -> Iterator[socket.socket]:
    """Raises `_NoWay`."""
    name, port = (host.name, host.port) if proxy is None else (proxy.host, proxy.port)
    where = f"{name}:{port}" if proxy is None else f"the proxy {name}:{port}"
    try:
        connection = socket.create_connection((name, port), timeout=TIMEOUT_S)
    except TimeoutError as error:
        raise _NoWay(f"{where} does not answer within {TIMEOUT_S:g} s", _ROUTE) from error
    except ConnectionRefusedError as error:
        raise _NoWay(f"nothing listens at {where}", "Check host and port of the url.") from error
    except (OSError, UnicodeError) as error:
        raise _NoWay(f"{where} cannot be reached", _ROUTE) from error
    with connection:
        if proxy is not None:
            _ask_for_tunnel(connection, host, proxy)
        yield connection


def _ask_for_tunnel(connection: socket.socket, host: Host, proxy: HttpProxy) -> None:
    authority = f"{host.name}:{host.port}".encode("ascii")
    lines = [b"CONNECT " + authority + b" HTTP/1.1", b"Host: " + authority]
    if proxy.authorization is not None:
        lines.append(b"Proxy-Authorization: " + proxy.authorization)
    try:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer and len(answer) < 16_384:
            piece = connection.recv(4096)
            if not piece:
                break
            answer += piece
    except OSError as error:
        raise _NoWay(f"the proxy {proxy.host} does not answer", _ROUTE) from error
    status = answer.split(b" ", 2)[1:2]
    if status != [b"200"]:
        said = status[0].decode("ascii", "replace") if status else "nothing"
        raise _NoWay(
            f"the proxy {proxy.host} answers {said} instead of opening a way to {host.name}",
            "Ask whoever runs the proxy to let the broker through, or except the host by NO_PROXY.",
        )


def _unverified(host: Host, proxy: HttpProxy | None, error: ssl.SSLCertVerificationError) -> _NoWay:
    if error.verify_code in _ANOTHER_HOST:
        names = _names_shown(host, proxy)
        whose = f" ({several(names, shown=3)})" if names else ""
        return _NoWay(
            f"{host.name} shows the certificate of another host{whose}",
            "Does the url name the right host, and does DNS lead to it? A proxy that takes TLS"
            " apart needs its own CA in ca_file.",
        )
    if error.verify_code == _EXPIRED:
        return _NoWay(
            f"the certificate of {host.name} has expired",
            "Whoever runs it must renew it; check this machine's clock too.",
        )
    if error.verify_code == _NOT_YET:
        return _NoWay(
            f"the certificate of {host.name} is not valid yet", "Check this machine's clock."
        )
    return _NoWay(
        f"the certificate of {host.name} is signed by nobody whom the broker trusts",
        "Name the CA that signed it as ca_file (a PEM). If it should be Microsoft's: something in"
        " between takes TLS apart.",
    )


def _names_shown(host: Host, proxy: HttpProxy | None) -> tuple[str, ...]:
    """Whose certificate it is. Read without trust, on a connection that carries nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            _connected(host, proxy) as plain,
            context.wrap_socket(plain, server_hostname=host.name) as secured,
        ):
            certificate = x509.load_der_x509_certificate(secured.getpeercert(True) or b"")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, _NoWay, x509.ExtensionNotFound):
        return ()
    return tuple(
        "".join(c for c in str(name.value) if c.isprintable())[:100]
        for name in names
        if isinstance(name, (x509.DNSName, x509.IPAddress))
    )

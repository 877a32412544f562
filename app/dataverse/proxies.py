"""Which way leads to Dataverse: direct, or through the proxy that the environment names."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpProxy:
    """Reached in plain HTTP, asked to CONNECT. What follows is TLS that it cannot read."""

    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)


def proxy_for(host: str, port: int, environ: Mapping[str, str]) -> HttpProxy | None:
    """The proxy for an https origin: HTTPS_PROXY unless NO_PROXY excepts the host.

    Lower-case names win, as with curl. Raises `Misconfigured` for a proxy that cannot be used.
    """
    value = environ.get("https_proxy") or environ.get("HTTPS_PROXY") or ""
    if not value or _is_excepted(
        host, port, environ.get("no_proxy") or environ.get("NO_PROXY", "")
    ):
        return None
    url = urlsplit(value if "://" in value else f"http://{value}")
    try:
        proxy_port = 80 if url.port is None else url.port
    except ValueError:
        proxy_port = 0
    if url.scheme != "http" or not url.hostname or not proxy_port:
        raise Misconfigured(
            "proxy-unusable", "HTTPS_PROXY must be http://[user:password@]host[:port]"
        )
    authorization = None
    if url.username is not None:
        secret = f"{unquote(url.username)}:{unquote(url.password or '')}"
        authorization = b"Basic " + b64encode(secret.encode())
    return HttpProxy(host=url.hostname, port=proxy_port, authorization=authorization)


def _is_excepted(host: str, port: int, no_proxy: str) -> bool:
    host = host.lower().rstrip(".")
    for entry in no_proxy.lower().replace(",", " ").split():
        if entry == "*":
            return True
        name, colon, entry_port = entry.rpartition(":")
        if not colon or not entry_port.isdigit():
            name, entry_port = entry, ""
        if entry_port and int(entry_port) != port:
            continue
        name = name.removeprefix("*").removeprefix(".").strip("[]")
        if host == name or host.endswith("." + name) or _in_network(host, name):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False

"""References to rows, as bodies and `$id` write them, and the URLs that may stand in front.

A caller may write a reference relative, from the host's root, or under the broker's or
Dataverse's own base. All of them mean one row in this environment; any other host is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

import msgspec

from app.errors import Unreadable
from app.odata.lexer import GUID
from app.odata.segments import Key, read_segment
from app.odata.target import read_target
from app.odata.tree import Literal

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_REGION = re.compile(r"^([^./]+)\.api(\.crm[0-9]*\.)", re.ASCII)
_TWIN = r"\1\2"
_PORTS = {"https": ":443", "http": ":80"}
_PLAIN_REFERENCE = re.compile(rf"([A-Za-z_]\w*+)\(({GUID})\)", re.ASCII)
_CONTENT_ID = re.compile(r"\$[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Bases:
    """Where this environment is, from outside and from inside. No trailing slashes."""

    public: str
    """`https://broker.example/environments/prod`"""
    public_root: str
    """`https://broker.example`, whose `/api/data` is a caller's default environment."""
    environment: str
    """`https://contoso.crm4.dynamics.com`"""
    version: str
    """`v9.2`"""

    @property
    def root(self) -> str:
        """The service root's path, with a trailing slash."""
        return f"/api/data/{self.version}/"

    @property
    def service(self) -> str:
        """Dataverse's own service root, with a trailing slash."""
        return self.environment + self.root

    def relative(self, url: str) -> str | None:
        """What stands behind the service root, or None where the URL leads elsewhere."""
        rooted, absolute = _roots(self)
        if url.startswith("/"):
            return None if url.startswith("//") else _behind(url, rooted)
        if _SCHEME.match(url) is None:
            return url
        return _behind(_folded(url), absolute)


@lru_cache(64)
def _roots(bases: Bases) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The service root as it may be written: from the host's root, and with scheme and host."""
    service = bases.root
    hosts = (bases.public, bases.environment, bases.public_root)
    return (
        (service, _path(bases.public) + service),
        tuple(_folded(host) + service for host in hosts),
    )


def _folded(url: str) -> str:
    """Scheme and host in lower case, without the port that goes without saying."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    scheme, host = scheme.lower(), host.lower()
    host = host.removesuffix(_PORTS.get(scheme, ":"))
    # `org.api.crm4.dynamics.com` and `org.crm4.dynamics.com` are one environment.
    return f"{scheme}://{_REGION.sub(_TWIN, host)}{slash}{path}"


def _path(base: str) -> str:
    return "/" + base.partition("://")[2].partition("/")[2] if base.count("/") > 2 else ""


def _behind(url: str, roots: tuple[str, ...]) -> str | None:
    return next((url[len(r) :] for r in roots if url.startswith(r)), None)


class Reference(msgspec.Struct, frozen=True):
    """One row by set and key, or (`content_id`) the row that another part of a batch names."""

    entity_set: str = ""
    key: Key | None = None
    content_id: str | None = None
    absolute: bool = False

    def relative(self) -> str:
        if self.content_id is not None:
            return f"${self.content_id}"
        assert self.key is not None
        return quote(f"{self.entity_set}({self.key.text()})", safe="!$'()*,=:@-._~")


def read_reference(url: str, bases: Bases) -> Reference:
    """Raises `Unreadable`: `bad-link-target`."""
    if _CONTENT_ID.fullmatch(url):
        return Reference(content_id=url[1:])
    relative = bases.relative(url)
    if relative is None:
        # `/accounts(id)`: from the root of the service, as the documentation writes binds.
        if not url.startswith("/") or url.startswith("//") or "/" in url[1:]:
            raise Unreadable(
                "bad-link-target", "a reference leads to another host, version or environment"
            )
        relative = url[1:]
    plain = _PLAIN_REFERENCE.fullmatch(relative)
    if plain is not None:
        key = Key(((None, Literal(plain[2])),))
        return Reference(plain[1], key, absolute="://" in url)
    try:
        target = read_target(relative.encode("utf-8"), inner=True)
        segments = [read_segment(s) for s in target.segments]
        keys = [s.key() for s in segments]
    except Unreadable as error:
        raise Unreadable("bad-link-target", f"a reference cannot be read: {error}") from None
    if len(segments) != 1 or target.options:
        raise Unreadable("bad-link-target", "a reference is one row: set(key)")
    return Reference(segments[0].name, keys[0], absolute="://" in url)

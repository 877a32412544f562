"""References to rows, as bodies and `$id` write them, and the URLs that may stand in front.

A caller may write a reference relative, from the host's root, or under the broker's or
Dataverse's own base. All of them mean one row in this environment; any other host is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from app.errors import Unreadable
from app.odata.segments import Key, read_segment
from app.odata.target import read_target

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_REGION = re.compile(r"^(https?://[^./]+)\.api(\.crm[0-9]*\.)", re.ASCII)


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
    def service(self) -> str:
        """Dataverse's own service root, with a trailing slash."""
        return f"{self.environment}/api/data/{self.version}/"

    def relative(self, url: str) -> str | None:
        """What stands behind the service root, or None where the URL leads elsewhere."""
        if url.startswith("/"):
            roots: tuple[str, ...] = (
                f"/api/data/{self.version}/",
                f"{_path(self.public)}/api/data/{self.version}/",
            )
            return _behind(url, roots) if not url.startswith("//") else None
        if _SCHEME.match(url) is None:
            return url
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        folded = _same_host(f"{scheme.lower()}://{host.lower()}") + slash + path
        roots = tuple(
            f"{_same_host(_fold(base))}/api/data/{self.version}/"
            for base in (self.public, self.environment, self.public_root)
        )
        return _behind(folded, roots)


def _fold(base: str) -> str:
    scheme, _, rest = base.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{host.lower()}{slash}{path}"


def _same_host(origin: str) -> str:
    """`org.api.crm4.dynamics.com` and `org.crm4.dynamics.com` are one environment."""
    return _REGION.sub(r"\1\2", origin)


def _path(base: str) -> str:
    return "/" + base.partition("://")[2].partition("/")[2] if base.count("/") > 2 else ""


def _behind(url: str, roots: tuple[str, ...]) -> str | None:
    return next((url[len(r) :] for r in roots if url.startswith(r)), None)


@dataclass(frozen=True, slots=True)
class Reference:
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
    if re.fullmatch(r"\$[0-9]{1,9}", url):
        return Reference(content_id=url[1:])
    relative = bases.relative(url)
    if relative is None:
        # `/accounts(id)`: from the root of the service, as the documentation writes binds.
        if not url.startswith("/") or url.startswith("//") or "/" in url[1:]:
            raise Unreadable(
                "bad-link-target", "a reference leads to another host, version or environment"
            )
        relative = url[1:]
    try:
        target = read_target(relative.encode("utf-8"), inner=True)
        segments = [read_segment(s) for s in target.segments]
        keys = [s.key() for s in segments]
    except Unreadable as error:
        raise Unreadable("bad-link-target", f"a reference cannot be read: {error}") from None
    if len(segments) != 1 or target.options:
        raise Unreadable("bad-link-target", "a reference is one row: set(key)")
    return Reference(segments[0].name, keys[0], absolute="://" in url)

"""Where a URL of Dataverse's leads: to the environment, or elsewhere."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

LinkKind = Literal["nextLink", "deltaLink", "session"]

SESSION_TOKEN: Final = re.compile(r"[?&]sessiontoken=", re.IGNORECASE)
"""Marks the address of a chunked file transfer (dataverse-reference 3.14)."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_ABSOLUTE: Final = re.compile(r"https?://([^/?#\\]*)", re.IGNORECASE)
_DYNAMICS_LABEL: Final = re.compile(r"crm[0-9]*")


class Seal(Protocol):
    """Turns a continuation into one that the broker will know again."""

    def __call__(self, kind: LinkKind, owner: str, url: str) -> str | None:
        """The sealed URL under the broker's base, or None where the link may not be handed out.

        `owner` is the expanded collection that a nextLink continues, empty for the answer
        itself. `url` is as Dataverse wrote it, and leads to the environment or is relative.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkBases:
    """`environment` is its configured URL; `broker` the base under which this caller asked.

    Without a slash at the end, both. `https://org.crm4.dynamics.com` and
    `https://org.api.crm4.dynamics.com` are one environment.
    """

    environment: str
    broker: str

    def to_broker(self, url: str) -> str | None:
        """The same place under the broker's base; None where `url` leads elsewhere.

        A relative reference stays as it is: it is resolved against an address that is the
        broker's already. One rooted at the host is put under the base.
        """
        # As Dataverse writes it, nearly always.
        if url.startswith(self.environment) and url[len(self.environment) :][:1] in {"/", ""}:
            return self.broker + url[len(self.environment) :]
        authorities, path = _names_and_path(self.environment)
        absolute = _ABSOLUTE.match(url)
        if absolute is not None:
            if absolute[1].lower() not in authorities:
                return None
            rest = url[absolute.end() :]
        elif url.startswith("/") and not url.startswith(("//", "/\\")):
            rest = url
        elif _SCHEME.match(url) or url.startswith(("/", "\\")) or (url and url[0] <= " "):
            return None
        else:
            return url
        if path:
            if not rest.startswith(path):
                return None
            rest = rest[len(path) :]
        if rest and rest[0] not in "/?#":
            return None
        return self.broker + rest


@functools.lru_cache(maxsize=1024)
def _names_and_path(environment: str) -> tuple[frozenset[str], str]:
    """All authorities that are this environment, in lower case, and its path where it has one."""
    parts = urlsplit(environment)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    default = 443 if parts.scheme == "https" else 80
    authorities: set[str] = set()
    for name in (host, _twin(host)):
        authorities.add(f"{name}:{parts.port or default}")
        if parts.port in {None, default}:
            authorities.add(name)
    return frozenset(authorities), parts.path.rstrip("/")


def _twin(host: str) -> str:
    """The other name of a Dynamics host: with `api` as second label, or without it."""
    first, _, rest = host.partition(".")
    if rest.startswith("api.") and _DYNAMICS_LABEL.fullmatch(rest.split(".")[1]):
        return f"{first}.{rest[4:]}"
    if _DYNAMICS_LABEL.fullmatch(rest.split(".")[0]):
        return f"{first}.api.{rest}"
    return host

"""What no single entry can see: names that exist nowhere, entries that exclude each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.config.model import (
    ApiKeyIdentity,
    Application,
    Caller,
    CertificateIdentity,
    Environment,
    Grant,
    Issuer,
    JwtIdentity,
    JwtMatch,
)
from app.config.places import written
from app.config.problems import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.config.documents import Node
    from app.config.places import Path
    from app.config.problems import Problem


class Consistency:
    """Checks the entries that are right by themselves against each other and the names of all.

    `root` holds every entry, the wrong ones too: naming an application whose entry has a mistake
    of its own is no second mistake.
    """

    def __init__(
        self,
        root: Node,
        *,
        public_url: str | None,
        applications: Mapping[str, Application],
        environments: Mapping[str, Environment],
        issuers: Mapping[str, Issuer],
        callers: Mapping[str, Caller],
    ) -> None:
        self._root = root
        self._public_url = public_url
        self._applications = applications
        self._environments = environments
        self._issuers = issuers
        self._callers = callers

    def problems(self) -> Iterator[Problem]:
        yield from self._of_environments()
        yield from self._of_issuers()
        for name, caller in self._callers.items():
            yield from self._of_caller(name, caller)
        yield from self._of_identities()

    def _problem(self, path: Path, message: str) -> Problem:
        return self._root.problem(path, f"{written(path)}: {message}")

    def _names(self, section: str) -> list[str]:
        return list(self._root.at((section,)).content) if section in self._root.content else []

    def _unknown(self, section: str, name: str, path: Path) -> Iterator[Problem]:
        names = self._names(section)
        if name not in names:
            what = section.removesuffix("s")
            yield self._problem(path, f"there is no {what} '{name}'{nearest(name, names)}")

    # ------------------------------------------------------------ environments, issuers

    def _of_environments(self) -> Iterator[Problem]:
        for name, environment in self._environments.items():
            if environment.administrator is not None:
                path = ("environments", name, "administrator")
                yield from self._unknown("applications", environment.administrator, path)

    def _of_issuers(self) -> Iterator[Problem]:
        first: dict[str, str] = {}
        dataverse = {canonical_host(e.url): name for name, e in self._environments.items()}
        for name, issuer in self._issuers.items():
            path = ("issuers", name)
            if (other := first.setdefault(issuer.issuer, name)) != name:
                yield self._problem(
                    (*path, "issuer"),
                    f"is the issuer of '{other}' too: list both audiences there",
                )
            if self._public_url is not None and _is_broker(issuer.issuer, self._public_url):
                yield self._problem(
                    (*path, "issuer"),
                    "is the broker itself: its tokens prove nobody, or one could renew itself "
                    "for ever",
                )
            for audience in issuer.audiences:
                if environment := dataverse.get(canonical_host(audience)):
                    yield self._problem(
                        (*path, "audience"),
                        f"is the URL of environment '{environment}': tokens for Dataverse are "
                        "no proof of who sends them; give the broker an audience of its own",
                    )

    # -------------------------------------------------------------------------- callers

    def _of_caller(self, name: str, caller: Caller) -> Iterator[Problem]:
        granted: dict[tuple[str, str], int] = {}
        for i, grant in enumerate(caller.grants):
            path = ("callers", name, "grants", i)
            yield from self._unknown("environments", grant.environment, (*path, "environment"))
            for application in grant.applications:
                at = (*path, "application")
                yield from self._unknown("applications", application, at)
                key = (grant.environment, application)
                if key in granted:
                    yield self._problem(
                        at,
                        f"'{application}' stands twice for environment '{grant.environment}': "
                        f"grants[{granted[key]}] has it already",
                    )
                granted.setdefault(key, i)
            yield from self._administrator_granted(grant, path)
        default = caller.default_environment
        if default is not None:
            path_of_default = ("callers", name, "default_environment")
            if all(grant.environment != default for grant in caller.grants):
                known = [grant.environment for grant in caller.grants]
                yield self._problem(
                    path_of_default,
                    f"no grant names environment '{default}'{nearest(default, known)}",
                )

    def _administrator_granted(self, grant: Grant, path: Path) -> Iterator[Problem]:
        """Compares client ids and hosts: a second name for either opens no way around.

        The tenant does not count: it can be written as a GUID and as each of its domains.
        """
        environment = self._environments.get(grant.environment)
        if environment is None:
            return
        host = canonical_host(environment.url)
        administrators = {
            e.administrator
            for e in self._environments.values()
            if e.administrator is not None and canonical_host(e.url) == host
        }
        registrations = {
            self._applications[a].client_id for a in administrators if a in self._applications
        }
        for name in grant.applications:
            application = self._applications.get(name)
            if name in administrators or (
                application is not None and application.client_id in registrations
            ):
                yield self._problem(
                    (*path, "application"),
                    f"'{name}' is the administrator of environment '{grant.environment}' and "
                    "cannot be granted: use an app registration of its own",
                )

    # ----------------------------------------------------------------------- identities

    def _of_identities(self) -> Iterator[Problem]:
        keys: dict[str, Path] = {}
        names: dict[str, tuple[str, Path]] = {}
        matches: list[_Match] = []
        for caller, entry in self._callers.items():
            for i, identity in enumerate(entry.identities):
                path: Path = ("callers", caller, "identities", i)
                match identity:
                    case ApiKeyIdentity(api_key=key):
                        first = keys.setdefault(key.sha256, path)
                        if first != path:
                            yield self._problem(
                                (*path, "api_key", "sha256"),
                                f"the same key stands at {self._where(first)}",
                            )
                    case CertificateIdentity(certificate=certificate):
                        other, first = names.setdefault(certificate.name, (caller, path))
                        if other != caller:
                            yield self._problem(
                                (*path, "certificate", "san"),
                                f"the same name stands at {self._where(first)}",
                            )
                    case JwtIdentity(jwt=match):
                        at = (*path, "jwt", "issuer")
                        yield from self._unknown("issuers", match.issuer, at)
                        matches.append(_Match(caller, path, _pairs(match)))
        yield from self._of_matches(matches)

    def _of_matches(self, matches: list[_Match]) -> Iterator[Problem]:
        """Where every token that one caller's match takes is taken by another caller's too.

        Only matches that share a claim's value can cover each other, so each is compared with
        those that share its rarest one: with a thousand callers, pairs would be half a million.
        """
        sharing: dict[tuple[str, str, str], list[int]] = {}
        for i, match in enumerate(matches):
            for pair in match.pairs:
                sharing.setdefault(pair, []).append(i)
        seen: set[tuple[int, int]] = set()
        for i, wide in enumerate(matches):
            rarest = min((sharing[pair] for pair in wide.pairs), key=len)
            for j in rarest:
                narrow = matches[j]
                if narrow.caller == wide.caller or not wide.pairs <= narrow.pairs:
                    continue
                first, second = sorted((i, j))
                if (first, second) not in seen:
                    seen.add((first, second))
                    other = matches[first]
                    yield self._problem(
                        (*matches[second].path, "jwt"),
                        f"a token that matches this can match '{other.caller}' too, at "
                        f"{self._where(other.path)}: add a claim that tells them apart",
                    )

    def _where(self, path: Path) -> str:
        node = self._root.at(path)
        return f"{written(path)} ({node.file.name}:{self._root.line_of(path)})"


def canonical_host(url: str) -> str:
    """Host and port, `org.api.crm4.dynamics.com` and `org.crm4.dynamics.com` being one."""
    netloc = urlsplit(url).netloc.lower()
    return netloc.replace(".api.crm", ".crm", 1).removesuffix(":443")


def _is_broker(issuer: str, public_url: str) -> bool:
    return issuer.rstrip("/") == public_url or issuer.startswith(f"{public_url}/environments/")


@dataclass(frozen=True, slots=True)
class _Match:
    """A caller's JWT match as the set of what it asks for: issuer, claim and value."""

    caller: str
    path: Path
    pairs: frozenset[tuple[str, str, str]]


def _pairs(match: JwtMatch) -> frozenset[tuple[str, str, str]]:
    return frozenset(
        (match.issuer, claim, value)
        for claim, values in match.claims.items()
        for value in ((values,) if isinstance(values, str) else values)
    )

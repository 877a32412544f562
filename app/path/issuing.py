"""Which token a resource asks for (RFC 8707), in every spelling that clients use. Pure.

The environment's URL asks for the Dataverse token; the broker's own, with or without
`/environments/{environment}`, for a broker token. Nothing else names a token: what is asked for
is looked up among the spellings of what is configured, and never taken apart to be believed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.errors import NotGranted, Unreadable

if TYPE_CHECKING:
    from app.config.model import Caller, Configuration, Grant

RESOURCE_CHARACTERS_MAX: Final = 2048

_DEFAULT_SCOPE: Final = "/.default"
_URL: Final = re.compile(
    r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?((?:/[!-~]*)?)", re.IGNORECASE
)
_DEFAULT_PORTS: Final = {"https": "443", "http": "80"}
_API_HOST: Final = re.compile(r"([^.]+)\.api\.(crm[0-9]*\..+)")
"""`org.api.crm4.dynamics.com` is `org.crm4.dynamics.com` under its other name."""


@dataclass(frozen=True, slots=True)
class RawToken:
    """The Dataverse token of one environment; two names of the configuration may share a URL."""

    environments: tuple[str, ...]

    @property
    def environment(self) -> str | None:
        return self.environments[0]


@dataclass(frozen=True, slots=True)
class BrokerToken:
    """A token for the proxy; `environment` where it is to open that one only."""

    environment: str | None


class Resources:
    """The spellings of one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._broker: dict[str, BrokerToken] = {}
        self._raw: dict[str, RawToken] = {}
        public = _canonical(configuration.public_url) or ""
        host = _URL.match(public)
        if host is not None:
            # Clients that take only scheme and host of a base URL ask for this.
            self._broker[public[: host.start(4)]] = BrokerToken(None)
        self._broker[public] = BrokerToken(None)
        for name, environment in configuration.environments.items():
            self._broker[f"{public}/environments/{name}"] = BrokerToken(name)
            url = _canonical(environment.url) or ""
            known = self._raw.get(url, RawToken(()))
            self._raw[url] = RawToken((*known.environments, name))

    def named(self, resource: str) -> RawToken | BrokerToken:
        """Raises `NotGranted`, in the words for what is there but not granted."""
        canonical = _canonical(resource)
        if canonical is None:
            raise no_such_resource()
        found = self._broker.get(canonical) or self._raw.get(canonical)
        if found is None:
            raise no_such_resource()
        return found


def no_such_resource() -> NotGranted:
    """The same for what does not exist and for what is somebody else's."""
    return NotGranted(
        "not-granted",
        "resource not granted: ask for the URL of an environment that is granted to you, or for"
        " the broker's own",
    )


def _canonical(resource: str) -> str | None:
    """Scheme and host in lower case, without what makes no difference; None for no plain URL.

    The path stays as it is, case and encoding too: `%2e`, `..` and `//` are in no spelling.
    """
    if len(resource) > RESOURCE_CHARACTERS_MAX:
        return None
    matched = _URL.fullmatch(resource.removesuffix(_DEFAULT_SCOPE))
    if matched is None:
        return None
    scheme, host, port, path = matched.groups()
    scheme, host = scheme.lower(), host.lower()
    api = _API_HOST.fullmatch(host)
    if api is not None:
        host = f"{api[1]}.{api[2]}"
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        host = f"{host}:{port}"
    return f"{scheme}://{host}{path.removesuffix('/')}"


@dataclass(frozen=True, slots=True)
class Order:
    """A token that a caller may have. `grant` is what its rate is counted under."""

    wanted: RawToken | BrokerToken
    environment: str | None
    application: str | None
    grant: Grant | None


def wanted_by(
    caller: Caller, resources: Resources, *, addressed: str | None, resource: str | None
) -> RawToken | BrokerToken:
    """What a request names; where it names nothing, the raw token of its environment.

    `addressed` is the environment of the address. Raises `NotGranted`, and `Unreadable` where
    nothing says which environment is meant.
    """
    if resource is not None:
        return resources.named(resource)
    return RawToken((addressed or _default_environment(caller),))


def order(
    caller: Caller,
    wanted: RawToken | BrokerToken,
    *,
    public_url: str,
    addressed: str | None,
    application: str | None,
) -> Order:
    """What a caller wants, where it is granted.

    `addressed` is the environment of the address, known to be granted; `application` the one
    that Broker-Application names. Raises `NotGranted`.
    """
    if isinstance(wanted, BrokerToken):
        return _broker_token(caller, wanted, addressed, application)
    environment = _environment(caller, wanted, addressed)
    grants = [g for g in _grants(caller, environment, application) if g.issue_token]
    if not grants:
        base = f"{public_url}/environments/{environment}"
        raise NotGranted(
            "token-not-granted",
            f"the raw token of {environment} is not granted: ask for {base}/.default instead,"
            " and call Dataverse through it",
        )
    return Order(wanted, environment, application or grants[0].applications[0], grants[0])


def _broker_token(
    caller: Caller, wanted: BrokerToken, addressed: str | None, application: str | None
) -> Order:
    environment = wanted.environment
    if environment is not None and addressed not in {None, environment}:
        raise no_such_resource()
    grants = _grants(caller, environment, application)
    return Order(wanted, environment, None, grants[0] if environment is not None else None)


def _environment(caller: Caller, wanted: RawToken, addressed: str | None) -> str:
    """Which of the names that share a URL: the address's, the default one, the first granted."""
    granted = [g.environment for g in caller.grants if g.environment in wanted.environments]
    for preferred in (addressed,) if addressed is not None else (caller.default_environment,):
        if preferred in granted:
            return preferred
    if addressed is not None or not granted:
        raise no_such_resource()
    return granted[0]


def _grants(caller: Caller, environment: str | None, application: str | None) -> list[Grant]:
    """In one environment or in all of them, as one application or as any."""
    found = [g for g in caller.grants if environment is None or g.environment == environment]
    if environment is not None and not found:
        raise no_such_resource()
    if application is not None:
        found = [g for g in found if application in g.applications]
        if not found:
            raise NotGranted(
                "not-granted", "Broker-Application not granted: it is not one of yours"
            )
    return found


def _default_environment(caller: Caller) -> str:
    named = {g.environment for g in caller.grants}
    if caller.default_environment is not None:
        return caller.default_environment
    if len(named) == 1:
        return named.pop()
    raise Unreadable(
        "no-default-environment",
        "name a resource: an environment's URL, or the broker's own, in scope or resource",
    )

"""Which applications and environments are to be looked at, and what each is granted where. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config.problems import nearest
from app.errors import BrokerError

if TYPE_CHECKING:
    from app.config.model import Configuration, Grant


class NothingChosen(BrokerError):
    """A name that there is not, or two that have nothing to do with each other."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An application in an environment. `grants`: caller, the grant's place, and the grant."""

    application: str
    environment: str
    grants: tuple[tuple[str, int, Grant], ...]
    is_administrator: bool = False

    @property
    def subject(self) -> str:
        return f"{self.application} in {self.environment}"


@dataclass(frozen=True, slots=True)
class Choice:
    applications: tuple[str, ...]
    environments: tuple[str, ...]
    pairs: tuple[Pair, ...]


def choose(
    configuration: Configuration, *, environment: str | None, application: str | None
) -> Choice:
    """In the configuration's order; None: all. Raises `NothingChosen`."""
    _known("environment", environment, tuple(configuration.environments))
    _known("application", application, tuple(configuration.applications))
    pairs = tuple(
        pair
        for pair in _pairs(configuration)
        if environment in {None, pair.environment} and application in {None, pair.application}
    )
    if environment is None and application is None:
        return Choice(tuple(configuration.applications), tuple(configuration.environments), pairs)
    if environment is not None and application is not None and not pairs:
        raise NothingChosen(
            "nothing-chosen",
            f"no grant lets anybody be {application} in {environment}, and it is no administrator"
            " there: name one of the two",
        )
    applications = {pair.application for pair in pairs} | ({application} - {None})
    environments = {pair.environment for pair in pairs} | ({environment} - {None})
    return Choice(
        tuple(name for name in configuration.applications if name in applications),
        tuple(name for name in configuration.environments if name in environments),
        pairs,
    )


def _known(what: str, name: str | None, known: tuple[str, ...]) -> None:
    if name is not None and name not in known:
        raise NothingChosen("nothing-chosen", f"no such {what}: {name}{nearest(name, known)}")


def _pairs(configuration: Configuration) -> list[Pair]:
    grants: dict[tuple[str, str], list[tuple[str, int, Grant]]] = {}
    for caller_name, caller in configuration.callers.items():
        for place, grant in enumerate(caller.grants):
            for application in grant.applications:
                key = (application, grant.environment)
                grants.setdefault(key, []).append((caller_name, place, grant))
    pairs = []
    for environment, config in configuration.environments.items():
        for application in configuration.applications:
            found = tuple(grants.get((application, environment), ()))
            administers = config.administrator == application
            if found or administers:
                pairs.append(Pair(application, environment, found, is_administrator=administers))
    return pairs

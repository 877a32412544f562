"""Which environment a caller means, and under which of its grants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import NotGranted, Unavailable, Unreadable

if TYPE_CHECKING:
    from app.config import model
    from app.identity.caller import Caller
    from app.path.ports import Headers
    from app.path.standing import Place, Standing
    from app.policy.grants import Grant


def default_environment(caller: model.Caller) -> str:
    """The caller's, or the only one that its grants name."""
    named = {g.environment for g in caller.grants}
    if caller.default_environment is not None:
        return caller.default_environment
    if len(named) == 1:
        return named.pop()
    raise Unreadable(
        "no-default-environment",
        "name the environment in the address: /environments/{environment}/api/data/…",
    )


def place_of(standing: Standing, caller: Caller, name: str) -> Place:
    """An environment that one of the caller's grants names."""
    place = standing.places.get(name)
    if place is None or all(g.environment != name for g in caller.config.grants):
        raise NotGranted("not-granted", "environment not granted: it is not one of yours")
    return place


def grants_of(standing: Standing, caller: Caller, place: Place) -> tuple[Grant, ...]:
    """The caller's grants in an environment, compiled against its schema."""
    grants = standing.grants.get((caller.name, place.name))
    if place.schema is None or not grants:
        raise Unavailable(
            "schema-unavailable",
            f"the schema of {place.name} is not there yet, and nothing is guessed without it",
            retry_after_s=5,
        )
    return grants


def granted(
    standing: Standing, caller: Caller, environment: str | None
) -> tuple[Place, tuple[Grant, ...]]:
    """Where a caller may go, and under which grants. Raises `NotGranted`, `Unavailable`."""
    name = environment if environment is not None else default_environment(caller.config)
    place = place_of(standing, caller, name)
    return place, grants_of(standing, caller, place)


def must_serve(place: Place, version: str) -> None:
    """Raises `Unreadable` where the environment has no such version of the Web API."""
    if version not in place.config.api_versions:
        raise Unreadable(
            "no-such-version", f"{place.name} serves {', '.join(place.config.api_versions)}"
        )


def chosen(grants: tuple[Grant, ...], headers: Headers) -> Grant:
    """The grant that `Broker-Application` names, or the first one."""
    wanted = application_header(headers)
    if wanted is None:
        return grants[0]
    for grant in grants:
        if wanted in grant.applications:
            return grant
    raise NotGranted("not-granted", "Broker-Application not granted: it is not one of yours")


def application_header(headers: Headers) -> str | None:
    found = [value for name, value in headers if name == b"broker-application"]
    if len(found) > 1:
        raise Unreadable("duplicate-header", "the header Broker-Application is given twice")
    return found[0].decode("latin-1").strip() if found else None

"""Application users as the environment's administrator sees them, and their one switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from app.doctor.asking import Asker, Refused, Unreached, succeeded
from app.doctor.choice import NothingChosen, choose
from app.doctor.way_in import NoWayIn, way_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.config.model import Configuration
    from app.doctor.surroundings import Surroundings

T = TypeVar("T")

_USERS = (
    "systemusers?$select=systemuserid,fullname,applicationid,isdisabled"
    "&$expand=systemuserroles_association($select=name)&$filter="
)


@dataclass(frozen=True, slots=True)
class ApplicationUser:
    """`application` is its name in the configuration; None for one that the broker is not."""

    id: str
    name: str
    client_id: str
    application: str | None
    disabled: bool
    roles: tuple[str, ...]


async def list_users(
    configuration: Configuration, environment: str | None, around: Surroundings
) -> tuple[ApplicationUser, ...]:
    """All of the environment's. Raises `NothingChosen` and `NoWayIn`."""

    async def listed(asker: Asker) -> tuple[ApplicationUser, ...]:
        rows = await asker.rows(f"{_USERS}applicationid%20ne%20null")
        return tuple(_user(configuration, row) for row in rows)

    return await _as_administrator(configuration, environment, around, listed)


async def switch_user(
    configuration: Configuration,
    application: str,
    environment: str | None,
    *,
    disabled: bool,
    around: Surroundings,
) -> ApplicationUser:
    """Takes effect at Dataverse at once, whatever tokens there are.

    Raises `NothingChosen`, and `NoWayIn` where Dataverse does not do it.
    """
    choose(configuration, environment=environment, application=application)
    client_id = configuration.applications[application].client_id

    async def switched(asker: Asker) -> ApplicationUser:
        target = f"{_USERS}applicationid%20eq%20{client_id}"
        rows = await asker.rows(target)
        if not rows:
            raise NothingChosen(
                "nothing-chosen",
                f"the environment has no application user of {application}; token-broker roles plan"
                f" --application {application} writes down how one is made",
            )
        user = f"systemusers({rows[0]['systemuserid']})"
        succeeded(await asker.change("PATCH", user, {"isdisabled": disabled}))
        return _user(configuration, (await asker.rows(target))[0])

    return await _as_administrator(configuration, environment, around, switched)


async def _as_administrator(
    configuration: Configuration,
    environment: str | None,
    around: Surroundings,
    work: Callable[[Asker], Awaitable[T]],
) -> T:
    name = _place(configuration, environment)
    config = configuration.environments[name]
    if config.administrator is None:
        raise NothingChosen(
            "nothing-chosen",
            f"{name} has no administrator: name the application that may manage application users"
            f" there, environments.{name}.administrator",
        )
    client = around.connect(config)
    try:
        asker = await way_in(
            configuration,
            application=config.administrator,
            environment=name,
            client=client,
            around=around,
        )
        return await work(asker)
    except Refused as error:
        raise NoWayIn("no-way-in", f"{error.refusal.says}. {error.refusal.remedy}") from error
    except Unreached as error:
        raise NoWayIn(error.code, error.detail) from error
    finally:
        await client.aclose()


def _place(configuration: Configuration, named: str | None) -> str:
    choice = choose(configuration, environment=named, application=None)
    if len(choice.environments) == 1:
        return choice.environments[0]
    names = ", ".join(choice.environments)
    raise NothingChosen("nothing-chosen", f"there are {names}: name one with --environment")


def _user(configuration: Configuration, row: dict[str, Any]) -> ApplicationUser:
    client_id = str(row.get("applicationid")).lower()
    roles = row.get("systemuserroles_association") or ()
    return ApplicationUser(
        id=str(row["systemuserid"]),
        name=str(row.get("fullname") or ""),
        client_id=client_id,
        application=next(
            (
                name
                for name, application in configuration.applications.items()
                if str(application.client_id) == client_id
            ),
            None,
        ),
        disabled=row.get("isdisabled") is True,
        roles=tuple(sorted(str(role.get("name")) for role in roles if isinstance(role, dict))),
    )

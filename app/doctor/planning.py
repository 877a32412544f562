"""Asks an environment for all that the plan of a role is made of. Reads only."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.doctor.asking import Asker, Refused, Unreached, succeeded
from app.doctor.choice import NothingChosen, choose
from app.doctor.finding import About
from app.doctor.needs import Privilege, needs_of
from app.doctor.rights import Rights
from app.doctor.role_plan import Place, RolePlan, names_wanted, plan_role
from app.doctor.way_in import NoWayIn, way_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.config.model import Configuration
    from app.doctor.choice import Pair
    from app.doctor.surroundings import Surroundings

NAMES_AT_ONCE: Final = 20
"""In one filter, so that no address gets too long."""

_USERS: Final = uuid.UUID("5b0a7f0e-2d0b-4f44-9d3c-4f0c1a2b7e11")


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to have planned; None: whatever there is one of, or as usual."""

    application: str
    environment: str | None = None
    name: str | None = None
    depth: str | None = None


async def plan(
    configuration: Configuration, wish: Wish, around: Surroundings
) -> tuple[RolePlan, Place]:
    """Asked as the environment's administrator where there is one, else as the application.

    Raises `NothingChosen`, and `NoWayIn` where nobody may look.
    """
    pair = _pair(configuration, wish)
    environment = configuration.environments[pair.environment]
    client = around.connect(environment)
    try:
        asker = await way_in(
            configuration,
            application=environment.administrator or pair.application,
            environment=pair.environment,
            client=client,
            around=around,
        )
        return await _planned(configuration, pair, wish, asker)
    except Refused as error:
        raise NoWayIn("no-way-in", f"{error.refusal.says}. {error.refusal.remedy}") from error
    except Unreached as error:
        raise NoWayIn(error.code, error.detail) from error
    finally:
        await client.aclose()


def _pair(configuration: Configuration, wish: Wish) -> Pair:
    choice = choose(configuration, environment=wish.environment, application=wish.application)
    granted = [pair for pair in choice.pairs if pair.grants]
    if len(granted) == 1:
        return granted[0]
    if not granted:
        raise NothingChosen("nothing-chosen", f"no grant lets anybody be {wish.application}")
    names = ", ".join(pair.environment for pair in granted)
    raise NothingChosen(
        "nothing-chosen", f"{wish.application} is granted in {names}: name one with --environment"
    )


async def _planned(
    configuration: Configuration, pair: Pair, wish: Wish, asker: Asker
) -> tuple[RolePlan, Place]:
    rights = Rights(
        about=About(pair.subject),
        environment=configuration.environments[pair.environment],
        asker=asker,
        grants=pair.grants,
    )
    finding = await rights.read()
    if rights.schema is None:
        raise NoWayIn("no-way-in", f"{finding.text}. {finding.remedy or ''}".rstrip())
    needs = needs_of(rights.compiled(), rights.tables)
    role = plan_role(
        needs,
        application=pair.application,
        environment=pair.environment,
        name=wish.name,
        others=await _privileges(asker, names_wanted(needs)),
        depth=wish.depth,
    )
    client_id = str(configuration.applications[pair.application].client_id)
    return role, await _place(asker, client_id)


async def _privileges(asker: Asker, names: Sequence[str]) -> dict[str, Privilege]:
    found = {}
    for start in range(0, len(names), NAMES_AT_ONCE):
        some = names[start : start + NAMES_AT_ONCE]
        filter_ = "%20or%20".join(f"name%20eq%20'{name}'" for name in some)
        for row in await asker.rows(f"privileges?$select=name,privilegeid&$filter={filter_}"):
            name, id_ = row.get("name"), row.get("privilegeid")
            if isinstance(name, str) and isinstance(id_, str):
                found[name] = Privilege(name, id_)
    return found


async def _place(asker: Asker, client_id: str) -> Place:
    rows = await asker.rows(
        "systemusers?$select=systemuserid,_businessunitid_value"
        "&$expand=systemuserroles_association($select=name,roleid)"
        f"&$filter=applicationid%20eq%20{client_id}"
    )
    url, version = asker.environment.url, asker.environment.api_versions[0]
    if rows:
        row: dict[str, Any] = rows[0]
        roles = row.get("systemuserroles_association") or ()
        return Place(
            url=url,
            api_version=version,
            business_unit=str(row["_businessunitid_value"]),
            user_id=str(row["systemuserid"]),
            roles=tuple((str(role["name"]), str(role["roleid"])) for role in roles),
        )
    answer = succeeded(
        await asker.get(
            "businessunits?$select=businessunitid&$filter=_parentbusinessunitid_value%20eq%20null"
        )
    )
    return Place(
        url=url,
        api_version=version,
        business_unit=str(answer["value"][0]["businessunitid"]),
        user_id=str(uuid.uuid5(_USERS, f"{url}/{client_id}")),
        roles=(),
        new_user_of=client_id,
    )

"""The security role that is exactly enough for an application's grants, and how it is made. Pure.

The requests are written down, never sent: a role is made by somebody who may, and reads it first.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from app.doctor.needs import DEPTHS, SCHEMA_READS, Need, Privilege

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from app.doctor.needs import Needs

_ROLES: Final = uuid.UUID("0c5f2f4e-6a0f-4b0e-8f57-9a8f4f1d7d10")
NAME_CHARACTERS_MAX: Final = 100
"""Of a role's name."""


@dataclass(frozen=True, slots=True)
class Place:
    """The environment as the application sees it."""

    url: str
    api_version: str
    business_unit: str
    """The user's own: a role can be given only where it belongs to it."""
    user_id: str
    roles: tuple[tuple[str, str], ...]
    """Name and id of those that the user has now."""
    new_user_of: str | None = None
    """The client id, where there is no application user yet."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One privilege of the role. `why` names the callers, or what it is for."""

    name: str
    id: str | None
    depth: str
    table: str | None
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    url: str
    content: dict[str, Any] | None
    why: str

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"method": self.method, "url": self.url, "why": self.why}
        if self.content is not None:
            told["body"] = self.content
        return told


@dataclass(frozen=True, slots=True)
class RolePlan:
    application: str
    environment: str
    name: str
    privileges: tuple[Planned, ...]
    unknown: tuple[str, ...]
    """Names that this environment has no privilege for."""
    unseen: tuple[str, ...]
    untold: tuple[str, ...]


def names_wanted(needs: Needs) -> tuple[str, ...]:
    """Privileges of whom only the name is known: somebody has to ask for their ids."""
    beside = [n.privilege.name for n in needs.by_name.values() if n.privilege.id is None]
    return tuple(dict.fromkeys((*SCHEMA_READS, *beside)))


def plan_role(
    needs: Needs,
    *,
    application: str,
    environment: str,
    name: str | None,
    others: Mapping[str, Privilege],
    depth: str | None = None,
) -> RolePlan:
    """`others`: what the environment knows of `names_wanted`. `depth`: no deeper than that."""
    reads = {
        privilege: Need(Privilege(privilege), "Global", ("the broker itself",), named=True)
        for privilege in SCHEMA_READS
    }
    planned: list[Planned] = []
    unknown: list[str] = []
    for need in {**reads, **needs.by_name}.values():
        found = need.privilege
        if found.id is None:
            known = others.get(found.name)
            if known is None:
                unknown.append(found.name)
                continue
            found = replace(found, id=known.id, depths=known.depths)
        planned.append(
            Planned(
                name=found.name,
                id=found.id,
                depth=_bounded(need.depth, depth, found.depths),
                table=need.entity_set,
                why=need.callers,
            )
        )
    chosen = name or f"Token broker: {application}"
    return RolePlan(
        application=application,
        environment=environment,
        name=chosen[:NAME_CHARACTERS_MAX],
        privileges=tuple(sorted(planned, key=lambda p: (p.table or "", p.name))),
        # Which privileges a schema is read with differs: one that is not there is not missed.
        unknown=tuple(u for u in unknown if u not in SCHEMA_READS),
        unseen=needs.unseen,
        untold=needs.untold,
    )


def _bounded(wanted: str, most: str | None, possible: Sequence[str]) -> str:
    if most is None or DEPTHS.index(wanted) <= DEPTHS.index(most) or most not in possible:
        return wanted
    return most


def calls(plan: RolePlan, place: Place) -> tuple[Call, ...]:
    """In this order. The role's id is chosen here, so that each line can be sent as it stands."""
    root = f"{place.url}/api/data/{place.api_version}"
    role_id = str(uuid.uuid5(_ROLES, f"{place.url}/{plan.application}/{plan.name}"))
    user_roles = f"{root}/systemusers({place.user_id})/systemuserroles_association/$ref"
    unit = f"/businessunits({place.business_unit})"
    user: tuple[Call, ...] = ()
    if place.new_user_of is not None:
        content = {
            "systemuserid": place.user_id,
            "applicationid": place.new_user_of,
            "businessunitid@odata.bind": unit,
        }
        why = f"makes the application user of {plan.application}"
        user = (Call("POST", f"{root}/systemusers", content, why),)
    made = (
        *user,
        Call(
            "POST",
            f"{root}/roles",
            {
                "roleid": role_id,
                "name": plan.name,
                "businessunitid@odata.bind": unit,
            },
            "makes the role, empty",
        ),
        Call(
            "POST",
            f"{root}/roles({role_id})/Microsoft.Dynamics.CRM.AddPrivilegesRole",
            {
                "Privileges": [
                    {"PrivilegeId": privilege.id, "Depth": privilege.depth}
                    for privilege in plan.privileges
                ]
            },
            f"gives it its {len(plan.privileges)} privileges",
        ),
        Call(
            "POST",
            user_roles,
            {"@odata.id": f"{root}/roles({role_id})"},
            f"gives the role to the application user of {plan.application}",
        ),
    )
    return (*made, *_taken_away(place.roles, role_id, root, user_roles))


def _taken_away(
    roles: Iterable[tuple[str, str]], role_id: str, root: str, user_roles: str
) -> tuple[Call, ...]:
    return tuple(
        Call(
            "DELETE",
            f"{user_roles}?$id={root}/roles({old_id})",
            None,
            f"takes {name} away, once everything works without it",
        )
        for name, old_id in roles
        if old_id.lower() != role_id
    )

"""What the application user may do beside what the grants need: too little, or too much. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.doctor.finding import several
from app.doctor.needs import DEPTHS, SCHEMA_READS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.doctor.finding import About, Finding
    from app.doctor.needs import Needs

ALL_POWERFUL: Final = ("System Administrator", "System Customizer")
"""Roles of Dataverse's own that no broker needs."""

OWN_READS: Final = frozenset(
    {*SCHEMA_READS, "prvReadUser", "prvReadRole", "prvReadPrivilege", "prvReadOrganization"}
    | {"prvReadBusinessUnit", "prvReadEntityKey", "prvReadOptionSet", "prvReadCustomization"}
)
"""What the broker and the doctor themselves look at: never called too much."""

_WEIGHTS: Final = ("Delete", "Assign", "Share", "Create", "Write", "Append", "Read")


def judge_roles(about: About, roles: tuple[str, ...]) -> Iterator[Finding]:
    if not roles:
        yield about.warning(
            "roles",
            "the application user has no security role of its own",
            "Give it one, unless a team that it belongs to has one: token-broker roles plan"
            " --application … writes down what the grants need.",
        )
        return
    mighty = tuple(role for role in roles if role in ALL_POWERFUL)
    if mighty:
        yield about.warning(
            "roles",
            f"the application user is {several(mighty)}: it may do far more than any grant",
            "Give it a role of its own (token-broker roles plan --application …), then take this"
            " one away: whoever gets hold of its token can do all of that.",
            names=roles,
        )
    else:
        yield about.ok("roles", f"security roles: {several(roles)}", names=roles)


def judge_privileges(
    about: About, held: Mapping[str, str], needs: Needs, *, mighty: bool
) -> Iterator[Finding]:
    """`held`: the depth by privilege. `mighty`: that it has too much is known already."""
    yield from _missing(about, held, needs)
    if needs.unseen:
        yield about.advice(
            "privileges",
            f"the grants let callers use {several(needs.unseen)}: what these need of Dataverse"
            " cannot be told from here",
        )
    if needs.untold:
        yield about.advice(
            "privileges",
            f"{several(needs.untold)} may do more than the rules of the grants say (the raw token,"
            " or not enforced), so what is too much cannot be told",
            "Write down in the grant what it does (token-broker policy suggest), and enforce it.",
        )
    elif not mighty:
        yield from _needless(about, held, needs)


def _missing(about: About, held: Mapping[str, str], needs: Needs) -> Iterator[Finding]:
    lacking = [n for n in needs.by_name.values() if n.privilege.name not in held]
    named = tuple(need.privilege.name for need in lacking if need.named)
    if named:
        callers = tuple(dict.fromkeys(c for need in lacking if need.named for c in need.callers))
        yield about.failure(
            "privileges",
            f"missing for what the grants of {several(callers)} allow: {several(named)}",
            "Add them to a security role of the application user (token-broker roles plan"
            " --application … lists all, with depths), or take the operations out of the grants.",
            code="0x80040220",
            names=named,
        )
    elif needs.by_name:
        yield about.ok("privileges", "all that the tables of the grants need are there")
    unnamed = tuple(need.privilege.name for need in lacking if not need.named)
    if unnamed:
        yield about.advice(
            "privileges",
            f'a grant for "*" reaches further than the security roles: {len(unnamed)} privileges'
            " on other tables are missing",
            "Nothing to do, if the roles are meant to say which tables those are.",
        )
    shallow = tuple(
        f"{need.privilege.name} ({held[need.privilege.name]})"
        for need in needs.by_name.values()
        if need.named and _is_shallower(held.get(need.privilege.name), need.depth)
    )
    if shallow:
        yield about.advice(
            "privileges",
            f"less deep than the grants reach: {several(shallow)}",
            "Nothing to do, if the roles are meant to bound which rows there are: rows of other"
            " owners stay out of sight.",
        )


def _is_shallower(have: str | None, depth: str) -> bool:
    # A depth that is none of Dataverse's four is not judged.
    return have in DEPTHS and DEPTHS.index(have) < DEPTHS.index(depth)


def _needless(about: About, held: Mapping[str, str], needs: Needs) -> Iterator[Finding]:
    needless = tuple(
        sorted((n for n in held if n not in needs.by_name and n not in OWN_READS), key=_weight)
    )
    if not needless:
        yield about.ok("privileges", "nothing that no caller's grant needs")
        return
    what = "privilege" if len(needless) == 1 else "privileges"
    yield about.warning(
        "privileges",
        f"{len(needless)} {what} that no caller's grant needs: {several(needless)}",
        "Take them out of the application user's security roles: whoever gets hold of its token"
        " has them.",
        names=needless,
    )


def _weight(name: str) -> tuple[int, str]:
    """What does the most harm comes first."""
    kind = next((i for i, k in enumerate(_WEIGHTS) if name.startswith(f"prv{k}")), -1)
    return (kind, name)

"""Who the caller is in this environment, and what his security roles let him do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from app.sandbox.dataverse.failures import Failed
from app.sandbox.dataverse.footprint import Footprint
from app.sandbox.dataverse.schema import metadata_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.sandbox.dataverse.schema import Table
    from app.sandbox.dataverse.store import Store

PRIVILEGE_KINDS = ("Create", "Read", "Write", "Delete", "Append", "AppendTo", "Assign", "Share")
SYSTEM_ADMINISTRATOR = "System Administrator"
ACT_ON_BEHALF = "prvActOnBehalfOfAnotherUser"


class Principal(Protocol):
    """What a verified token says: signature, audience and expiry are somebody else's work."""

    @property
    def application_id(self) -> str: ...

    @property
    def claims(self) -> Mapping[str, Any]: ...


def privilege_id(name: str) -> str:
    return metadata_id("privilege", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The user whose rights count. `acting`: the one behind him when he is impersonated."""

    id: str
    business_unit: str
    role_count: int
    privileges: frozenset[str]
    access_mode: int = 0
    acting: str | None = None
    footprint: Footprint = field(default_factory=Footprint, compare=False, repr=False)

    def touch(self, operation: str, table: Table, *columns: str) -> None:
        """Note, for the request's footprint, columns by their logical names."""
        for column in columns:
            self.footprint.add(operation, table.logical, column)

    def need(self, kind: str, table: Table) -> None:
        """Raises the 403 that Dataverse answers where prv{kind}{table} is missing."""
        self.footprint.add(kind, table.logical)
        name = f"prv{kind}{table.privilege}"
        if name not in self.privileges:
            raise self.missing(name, table.type_code, table.logical)

    def missing(self, privilege: str, type_code: int, logical: str) -> Failed:
        return Failed(
            403,
            "0x80040220",
            f"Principal user (Id={self.id}, type=8, roleCount={self.role_count}, "
            f"privilegeCount={len(self.privileges)}, accessMode={self.access_mode}), is missing "
            f"{privilege} privilege (Id={privilege_id(privilege)}) on OTC={type_code} for "
            f"entity '{logical}'. context.Caller={self.id}",
        )


class Rights:
    """Reads users and their roles, and remembers them until a role or a user changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[tuple[str, str], User] = {}
        self._seen_at = -1

    def user_of(self, application_id: str) -> User:
        """The application user. Raises the 403 for a stranger and for a disabled one."""
        return self._find("applicationid", application_id)

    def acting_as(self, user: User, headers: Mapping[str, list[str]]) -> User:
        """`user`, or the one that the headers (in lower case) name instead."""
        for header, column in (
            ("callerobjectid", "azureactivedirectoryobjectid"),
            ("mscrmcallerid", "systemuserid"),
        ):
            if header in headers:
                return self._impersonated(user, column, headers[header][0].strip())
        return user

    def _impersonated(self, user: User, column: str, value: str) -> User:
        """What is left when `user` acts as another: what both may do."""
        if ACT_ON_BEHALF not in user.privileges:
            raise user.missing(ACT_ON_BEHALF, 8, "systemuser")
        other = self._find(column, value)
        return User(
            id=other.id,
            business_unit=other.business_unit,
            role_count=other.role_count,
            privileges=other.privileges & user.privileges,
            access_mode=other.access_mode,
            acting=user.id,
            footprint=user.footprint,
        )

    def _find(self, column: str, value: str) -> User:
        if self._seen_at != self._store.rights_version:
            self._seen.clear()
            self._seen_at = self._store.rights_version
        key = (column, value.lower())
        user = self._seen.get(key)
        if user is None:
            user = self._seen[key] = self._load(*key)
        return user

    def _load(self, column: str, value: str) -> User:
        row = self._store.one(
            "SELECT systemuserid, businessunitid, isdisabled, accessmode "  # noqa: S608
            f"FROM systemuser WHERE {column} = ?",
            (value,),
        )
        if row is None or row[2]:
            raise Failed(403, "0x80072560", "The user is not a member of the organization.")
        user_id, unit, _, access_mode = row
        roles = {
            role
            for (role,) in self._store.all(
                "SELECT roleid FROM systemuserroles WHERE systemuserid = :user UNION "
                "SELECT roleid FROM teamroles WHERE teamid IN "
                "(SELECT teamid FROM teammembership_pairs WHERE systemuserid = :user)",
                {"user": user_id},
            )
        }
        held: set[str] = set()
        for role in roles:
            held.update(
                name
                for (name,) in self._store.all(
                    "SELECT p.name FROM roleprivileges r JOIN privilege p USING (privilegeid) "
                    "WHERE r.roleid = ?",
                    (role,),
                )
            )
        return User(
            id=user_id,
            business_unit=unit,
            role_count=len(roles),
            privileges=frozenset(held),
            access_mode=access_mode or 0,
        )


def add_application_user(
    store: Store,
    *,
    application_id: str,
    name: str,
    roles: tuple[str, ...] = (SYSTEM_ADMINISTRATOR,),
    object_id: str | None = None,
) -> str:
    """Make an application known to the environment, as its administrator would; the user's id.

    `roles`: names of security roles of the root business unit.
    """
    users = store.schema["systemuser"]
    (unit,) = store.all(
        "SELECT businessunitid FROM businessunit WHERE parentbusinessunitid IS NULL"
    )[0]
    user_id = str(uuid4())
    with store.transaction():
        store.insert(
            users,
            {
                "systemuserid": user_id,
                "ownerid": user_id,
                "fullname": f"# {name}",
                "domainname": f"{application_id}@contoso.example",
                "applicationid": application_id.lower(),
                "azureactivedirectoryobjectid": (object_id or str(uuid4())).lower(),
                "isdisabled": 0,
                "accessmode": 4,
                "businessunitid": unit,
            },
        )
        relation = next(
            r for r in store.schema.many_to_many if r.name == "systemuserroles_association"
        )
        for role in roles:
            found = store.one("SELECT roleid FROM role WHERE name = ?", (role,))
            if found is None:
                raise ValueError(f"no security role is named {role!r}")
            store.associate(relation, user_id, found[0])
    return user_id

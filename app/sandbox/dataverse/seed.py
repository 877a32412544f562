"""The rows that an environment starts with: the same ones every time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.sandbox.dataverse.rights import PRIVILEGE_KINDS, SYSTEM_ADMINISTRATOR, privilege_id
from app.sandbox.dataverse.sample import sow_business
from app.sandbox.dataverse.sowing import (
    FIRST_USER,
    ORGANIZATION_ID,
    ROOT_BUSINESS_UNIT,
    SERVICE_TEAM,
    Sower,
    numbered,
)

if TYPE_CHECKING:
    from app.sandbox.dataverse.store import Store


ROLES: dict[str, tuple[str, ...]] = {
    # A role's name, and its privileges as "kinds:table,table"; "*" is every table.
    SYSTEM_ADMINISTRATOR: ("*:*",),
    "System Customizer": ("Read:*",),
    "Basic User": (
        "Create,Read,Write,Delete,Append,AppendTo,Assign,Share:account,contact,activitypointer",
        "Create,Read,Write,Delete,Append,AppendTo,Assign,Share:annotation,opportunity",
        "Create,Read,Write,Delete:fileattachment",
        "Read:systemuser,team,role,businessunit,transactioncurrency,organization,savedquery",
    ),
    "Delegate": ("ActOnBehalfOfAnotherUser",),
    "Service Reader": ("Read:*",),
    "Service Writer": ("*:*",),
    "Invoice Integration": (
        "Read,Append,AppendTo:account,contact",
        "Create,Read,Write,Append,AppendTo:invoice,invoicedetail",
        "Read,AppendTo:transactioncurrency",
        "Read:systemuser,businessunit,organization",
    ),
    "Project Portal": (
        "Create,Read,Write,Append,AppendTo:new_project",
        "Read,AppendTo:account,contact,systemuser",
        "Read:organization,businessunit",
    ),
}


def sow(store: Store) -> None:
    """Fill an empty store."""
    sower = Sower(store, datetime(2024, 1, 8, 8, 0, tzinfo=UTC))
    with store.transaction():
        _organization(sower)
        _people(sower)
        sow_business(sower)


def _organization(sower: Sower) -> None:
    sower.put("organization", organizationid=ORGANIZATION_ID, name="contoso")
    sower.put("businessunit", businessunitid=ROOT_BUSINESS_UNIT, name="contoso")
    sower.put(
        "businessunit",
        businessunitid=numbered("b", 2),
        name="Benelux",
        parentbusinessunitid=ROOT_BUSINESS_UNIT,
    )
    for number, (name, code, sign, rate) in enumerate(
        (("Euro", "EUR", "€", 1), ("US Dollar", "USD", "$", 1.08)), 1
    ):
        sower.put(
            "transactioncurrency",
            transactioncurrencyid=numbered("c", number),
            currencyname=name,
            isocurrencycode=code,
            currencysymbol=sign,
            exchangerate=rate,
        )


def _people(sower: Sower) -> None:
    store = sower.store
    for number, (first, last, object_id) in enumerate(
        (
            ("System", "Administrator", "0b5d8f3e-2c41-4a1e-9b5c-6a7e1f0d2c31"),
            ("Ines", "Jansen", "e39c5d16-675b-48d1-8e67-667427e9c084"),
            ("Tomas", "Novak", "5e4fe2a7-4a4b-4b3c-9a57-1e8f5c0a7d22"),
            ("Lea", "Moreau", "93a1b7c2-7f0e-4dd1-8a2f-0c5e6b9d4f13"),
        ),
        1,
    ):
        user_id = numbered("4", number)
        sower.put(
            "systemuser",
            systemuserid=user_id,
            ownerid=user_id,
            firstname=first,
            lastname=last,
            fullname=f"{first} {last}",
            domainname=f"{first}.{last}@contoso.example".lower(),
            internalemailaddress=f"{first}.{last}@contoso.example".lower(),
            azureactivedirectoryobjectid=object_id,
            isdisabled=0,
            accessmode=0,
            businessunitid=ROOT_BUSINESS_UNIT,
        )
    sower.put(
        "team",
        teamid=SERVICE_TEAM,
        ownerid=SERVICE_TEAM,
        name="Service desk",
        businessunitid=ROOT_BUSINESS_UNIT,
    )
    _roles(sower)
    schema = store.schema
    relations = {r.name: r for r in schema.many_to_many}
    members, roles = relations["teammembership_association"], relations["teamroles_association"]
    for number in (2, 3):
        store.associate(members, SERVICE_TEAM, numbered("4", number))
    user_roles = relations["systemuserroles_association"]
    store.associate(user_roles, FIRST_USER, role_id(SYSTEM_ADMINISTRATOR))
    for number in (2, 3, 4):
        store.associate(user_roles, numbered("4", number), role_id("Basic User"))
    store.associate(roles, SERVICE_TEAM, role_id("Project Portal"))


def role_id(name: str) -> str:
    """The id of a seeded role."""
    return numbered("8", list(ROLES).index(name) + 1)


def _roles(sower: Sower) -> None:
    store = sower.store
    schema = store.schema
    every = {t.privilege for t in schema if t.type_code}
    names = [f"prv{kind}{table}" for table in sorted(every) for kind in PRIVILEGE_KINDS]
    names.append("prvActOnBehalfOfAnotherUser")
    for name in names:
        sower.put("privilege", privilegeid=privilege_id(name), name=name)
    relation = next(r for r in schema.many_to_many if r.name == "roleprivileges_association")
    for name, lines in ROLES.items():
        sower.put("role", roleid=role_id(name), name=name, businessunitid=ROOT_BUSINESS_UNIT)
        held: set[str] = set()
        for line in lines:
            kinds, _, tables = line.partition(":")
            if not tables:
                held.add(f"prv{kinds}")
                continue
            chosen = every if tables == "*" else {schema[t].privilege for t in tables.split(",")}
            for kind in PRIVILEGE_KINDS if kinds == "*" else kinds.split(","):
                held |= {f"prv{kind}{table}" for table in chosen}
        if name == SYSTEM_ADMINISTRATOR:
            held = set(names)
        for privilege in sorted(held):
            store.associate(relation, role_id(name), privilege_id(privilege))

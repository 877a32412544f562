"""The rows that an environment starts with: the same ones every time."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.rights import PRIVILEGE_KINDS, SYSTEM_ADMINISTRATOR, privilege_id

if TYPE_CHECKING:
    from app.sandbox.dataverse.schema import Table
    from app.sandbox.dataverse.store import Store

ORGANIZATION_ID = "0f2b5d3e-6f1c-4f0a-9a54-2d1c5b7e9f10"
TENANT_ID = "aaaaaaaa-0000-0000-0000-000000000001"
ROOT_BUSINESS_UNIT = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbb1"
EURO = "cccccccc-cccc-cccc-cccc-ccccccccccc1"
SERVICE_TEAM = "dddddddd-dddd-dddd-dddd-ddddddddddd1"
FIRST_USER = "44444444-4444-4444-4444-444444444441"
"""The System Administrator, who owns what is seeded."""

_CITIES = ("Utrecht", "Lyon", "Porto", "Ghent", "Malmö", "Graz", "Turin", "Kraków")
_TRADES = ("Bakery", "Logistics", "Foods", "Optics", "Textiles", "Energy", "Paper", "Marine")
_FIRST = ("Ana", "Bram", "Chloé", "Dirk", "Elif", "Femke", "Goran", "Hanna", "Ivo", "Jonas")
_LAST = ("Almeida", "Bakker", "Costa", "De Vries", "Eriksson", "Fischer", "O'Brian", "Rossi")
_GOODS = ("Cable 5 m", "Plug", "Switch", "Lamp", "Sensor", "Mount")

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


def numbered(digit: str, number: int) -> str:
    """A GUID that a person recognises: 11111111-1111-1111-1111-111111111112 is account 2."""
    head = "-".join((digit * 8, digit * 4, digit * 4, digit * 4))
    tail = f"{digit * 11}{number}" if number < 10 else f"{digit * 8}f{number:03d}"
    return f"{head}-{tail}"


class _Sower:
    def __init__(self, store: Store, start: datetime) -> None:
        self.store = store
        self.random = random.Random(20_240_229)
        self.now = start

    def put(self, logical: str, **values: Any) -> None:
        table: Table = self.store.schema[logical]
        self.now += timedelta(minutes=7)
        stamp = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        row: dict[str, Any] = {}
        names = table.by_name
        if "createdon" in names:
            row |= {"createdon": stamp, "modifiedon": stamp}
        if "statecode" in names:
            row |= {"statecode": 0, "statuscode": 1}
        if table.owned:
            row |= {
                "ownerid": FIRST_USER,
                "ownerid__type": "systemuser",
                "owninguser": FIRST_USER,
                "owningbusinessunit": ROOT_BUSINESS_UNIT,
                "createdby": FIRST_USER,
                "modifiedby": FIRST_USER,
            }
        if "activitytypecode" in names:
            row["activitytypecode"] = logical
        self.store.insert(table, row | values)

    def money(self, low: int, high: int) -> float:
        return self.random.randrange(low * 100, high * 100) / 100


def sow(store: Store) -> None:
    """Fill an empty store."""
    from datetime import UTC  # noqa: PLC0415 - beside its one use

    sower = _Sower(store, datetime(2024, 1, 8, 8, 0, tzinfo=UTC))
    with store.transaction():
        _organization(sower)
        _people(sower)
        _accounts(sower)
        _contacts(sower)
        _invoices(sower)
        _opportunities(sower)
        _projects(sower)
        _activities(sower)
        _queries(sower)


def _organization(sower: _Sower) -> None:
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


def _people(sower: _Sower) -> None:
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


def _roles(sower: _Sower) -> None:
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


def _accounts(sower: _Sower) -> None:
    pick = sower.random
    for number in range(1, 61):
        city = _CITIES[number % len(_CITIES)]
        street = f"Canal street {number}"
        sower.put(
            "account",
            accountid=numbered("1", number),
            name="Contoso" if number == 1 else f"{city} {_TRADES[number // 8]} {number}",
            accountnumber=f"A-{1000 + number}",
            telephone1=f"+31 30 555 {number:04d}",
            emailaddress1=f"office{number}@account{number}.example",
            websiteurl=f"https://account{number}.example",
            description=f"Customer since {2000 + number % 24}." if number % 3 else None,
            revenue=sower.money(100_000, 9_000_000),
            creditlimit=float(pick.randrange(1, 90) * 1000),
            creditonhold=int(number % 9 == 0),
            industrycode=(1, 6, 7, 12, 33)[number % 5],
            accountcategorycode=(1, 2, None)[number % 3],
            customertypecode=3,
            new_channels=("1", "1,2", "2,4", None)[number % 4],
            numberofemployees=pick.randrange(2, 3000),
            address1_line1=street,
            address1_city=city,
            address1_stateorprovince="WA" if number % 6 == 0 else None,
            address1_composite=f"{street}\r\n{city}",
            new_riskscore=pick.randrange(1, 100),
            primarycontactid=numbered("2", number),
            parentaccountid=numbered("1", number - 40) if number > 40 else None,
            transactioncurrencyid=EURO,
            statecode=int(number % 10 == 0),
            statuscode=2 if number % 10 == 0 else 1,
        )


def _contacts(sower: _Sower) -> None:
    pick = sower.random
    for number in range(1, 121):
        first, last = _FIRST[number % len(_FIRST)], _LAST[number % len(_LAST)]
        sower.put(
            "contact",
            contactid=numbered("2", number),
            firstname=first,
            lastname=last,
            fullname=f"{first} {last}",
            emailaddress1=f"contact{number}@people.example",
            telephone1=f"+31 6 555 {number:05d}",
            mobilephone=f"+31 6 777 {number:05d}" if number % 2 else None,
            jobtitle=("Buyer", "CFO", "Engineer", None)[number % 4],
            birthdate=f"19{60 + number % 40}-0{1 + number % 9}-1{number % 10}",
            governmentid=str(number),
            annualincome=sower.money(20_000, 200_000),
            creditlimit=float(pick.randrange(1, 20) * 500),
            parentcustomerid=numbered("1", 1 + (number - 1) % 60),
            parentcustomerid__type="account",
            transactioncurrencyid=EURO,
        )


def _invoices(sower: _Sower) -> None:
    pick = sower.random
    line = 0
    for number in range(1, 41):
        by_contact = number % 5 == 0
        total = sower.money(100, 20_000)
        sower.put(
            "invoice",
            invoiceid=numbered("3", number),
            name=f"Invoice {number}",
            invoicenumber=f"INV-{2000 + number}",
            totalamount=total,
            totaltax=round(total * 0.21, 2),
            duedate=f"2024-{1 + number % 12:02d}-28",
            description=None,
            new_margin=sower.money(10, 900),
            customerid=numbered("2" if by_contact else "1", 1 + number % 30),
            customerid__type="contact" if by_contact else "account",
            transactioncurrencyid=EURO,
        )
        for _ in range(1 + number % 3):
            line += 1
            sower.put(
                "invoicedetail",
                invoicedetailid=numbered("7", line),
                productdescription=pick.choice(_GOODS),
                quantity=float(pick.randrange(1, 12)),
                priceperunit=sower.money(1, 200),
                new_internalcost=sower.money(1, 100),
                invoiceid=numbered("3", number),
            )


def _opportunities(sower: _Sower) -> None:
    for number in range(1, 13):
        sower.put(
            "opportunity",
            opportunityid=numbered("9", number),
            name=f"Opportunity {number}",
            estimatedvalue=sower.money(1_000, 90_000),
            customerid=numbered("1", number),
            customerid__type="account",
            transactioncurrencyid=EURO,
        )


def _projects(sower: _Sower) -> None:
    store = sower.store
    relation = next(r for r in store.schema.many_to_many if r.name == "new_new_project_contact")
    for number in range(1, 11):
        sower.put(
            "new_project",
            new_projectid=numbered("5", number),
            new_name=f"Project {number}",
            new_code=f"P-{number:03d}",
            new_status=(1, 2, 3)[(number - 1) % 3],
            new_budget=float(number * 12_500),
            new_secretnotes=f"Confidential {number}",
            new_accountid=numbered("1", 1 + (number - 1) % 4),
            new_managerid=numbered("4", 1 + number % 4),
        )
        for offset in (1, 2):
            store.associate(relation, numbered("5", number), numbered("2", number + offset))
    sower.put(
        "new_secret", new_secretid=numbered("e", 1), new_name="vault", new_value="correct horse"
    )


def _activities(sower: _Sower) -> None:
    for number in range(1, 25):
        kind = ("account", "contact", "opportunity")[number % 3]
        digit = {"account": "1", "contact": "2", "opportunity": "9"}[kind]
        sower.put(
            "task",
            activityid=numbered("a", number),
            subject=f"Task {number}",
            description="Call back" if number % 2 else None,
            regardingobjectid=numbered(digit, 1 + number // 3),
            regardingobjectid__type=kind,
            scheduledend=f"2024-06-{number:02d}T09:00:00Z",
            statecode=int(number % 4 == 0),
            statuscode=2 if number % 4 == 0 else 1,
        )
    for number in range(1, 5):
        sower.put(
            "phonecall",
            activityid=numbered("a", 100 + number),
            subject=f"Phone call {number}",
            phonenumber="+31 30 555 0001",
            directioncode=number % 2,
            regardingobjectid=numbered("1", number),
            regardingobjectid__type="account",
        )
    for number in range(1, 9):
        sower.put(
            "annotation",
            annotationid=numbered("f", number),
            subject=f"Note {number}",
            notetext="Met at the fair.",
            objectid=numbered("1", number),
            objectid__type="account",
        )


def _queries(sower: _Sower) -> None:
    for number, (name, table, columns) in enumerate(
        (
            ("Active Accounts", "account", ("name", "accountnumber", "telephone1")),
            ("Active Contacts", "contact", ("fullname", "emailaddress1")),
        ),
        1,
    ):
        attributes = "".join(f'<attribute name="{c}" />' for c in columns)
        sower.put(
            "savedquery",
            savedqueryid=numbered("6", number),
            name=name,
            returnedtypecode=table,
            fetchxml=f'<fetch version="1.0"><entity name="{table}">{attributes}'
            f'<order attribute="{columns[0]}" /><filter type="and"><condition '
            'attribute="statecode" operator="eq" value="0" /></filter></entity></fetch>',
        )
    sower.put(
        "userquery",
        userqueryid=numbered("6", 3),
        name="My invoices",
        returnedtypecode="invoice",
        fetchxml='<fetch><entity name="invoice"><attribute name="name" /></entity></fetch>',
    )

"""Sample rows of the business tables: accounts, people, invoices, projects, notes."""

from __future__ import annotations

from app.sandbox.dataverse.sowing import EURO, Sower, numbered

_CITIES = ("Utrecht", "Lyon", "Porto", "Ghent", "Malmö", "Graz", "Turin", "Kraków")
_TRADES = ("Bakery", "Logistics", "Foods", "Optics", "Textiles", "Energy", "Paper", "Marine")
_FIRST = ("Ana", "Bram", "Chloé", "Dirk", "Elif", "Femke", "Goran", "Hanna", "Ivo", "Jonas")
_LAST = ("Almeida", "Bakker", "Costa", "De Vries", "Eriksson", "Fischer", "O'Brian", "Rossi")
_GOODS = ("Cable 5 m", "Plug", "Switch", "Lamp", "Sensor", "Mount")


def sow_business(sower: Sower) -> None:
    _accounts(sower)
    _contacts(sower)
    _invoices(sower)
    _opportunities(sower)
    _projects(sower)
    _activities(sower)
    _queries(sower)


def _accounts(sower: Sower) -> None:
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


def _contacts(sower: Sower) -> None:
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


def _invoices(sower: Sower) -> None:
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


def _opportunities(sower: Sower) -> None:
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


def _projects(sower: Sower) -> None:
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


def _activities(sower: Sower) -> None:
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


def _queries(sower: Sower) -> None:
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

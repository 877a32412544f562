"""The tables that the sandbox serves, standard and custom ones, and what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.sandbox.dataverse.relationships import many_to_many, one_to_many
from app.sandbox.dataverse.schema import Column, Key, Kind, Schema, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

_USERS_AND_TEAMS = ("systemuser", "team")


def _schema_name(name: str) -> str:
    return name if name.startswith("new_") else name[:1].upper() + name[1:]


def _column(
    name: str,
    kind: Kind,
    label: str,
    *,
    length: int = 0,
    options: tuple[tuple[int, str], ...] = (),
    writable: bool = True,
    required: bool = False,
) -> Column:
    return Column(
        name=name,
        kind=kind,
        label=label,
        schema_name=_schema_name(name),
        max_length=length,
        options=options,
        writable=writable,
        required=required,
    )


def _text(name: str, label: str, length: int = 100, *, required: bool = False) -> Column:
    return _column(name, "string", label, length=length, required=required)


def _memo(name: str, label: str, length: int = 2000) -> Column:
    return _column(name, "memo", label, length=length)


def _computed(name: str, label: str, kind: Kind = "string") -> Column:
    return _column(name, kind, label, length=1000 if kind == "string" else 0, writable=False)


def _choice(name: str, label: str, *options: tuple[int, str]) -> Column:
    return _column(name, "choice", label, options=options)


def _lookup(
    name: str, label: str, *targets: str, schema_name: str = "", writable: bool = True
) -> Column:
    return Column(
        name=name,
        kind="lookup",
        label=label,
        schema_name=schema_name or _schema_name(name),
        targets=targets,
        writable=writable,
    )


def _state(active: str = "Active", inactive: str = "Inactive") -> tuple[Column, ...]:
    return (
        _column("statecode", "state", "Status", options=((0, active), (1, inactive))),
        _column("statuscode", "status", "Status Reason", options=((1, active), (2, inactive))),
    )


def _dates() -> tuple[Column, ...]:
    return (
        _computed("createdon", "Created On", "datetime"),
        _computed("modifiedon", "Modified On", "datetime"),
        _computed("versionnumber", "Version Number", "bigint"),
    )


def _ownership() -> tuple[Column, ...]:
    return (
        _lookup("ownerid", "Owner", *_USERS_AND_TEAMS),
        _lookup("owninguser", "Owning User", "systemuser", writable=False),
        _lookup("owningteam", "Owning Team", "team", writable=False),
        _lookup("owningbusinessunit", "Owning Business Unit", "businessunit", writable=False),
        _lookup("createdby", "Created By", "systemuser", writable=False),
        _lookup("modifiedby", "Modified By", "systemuser", writable=False),
        _lookup("createdonbehalfby", "Created By (Delegate)", "systemuser", writable=False),
        _lookup("modifiedonbehalfby", "Modified By (Delegate)", "systemuser", writable=False),
    )


def _table(
    logical: str,
    set_name: str,
    label: str,
    columns: Iterable[Column],
    *,
    type_code: int,
    name_column: str | None = "name",
    schema_name: str = "",
    privilege: str = "",
    pk: str = "",
    base: Table | None = None,
    abstract: bool = False,
    keys: tuple[Key, ...] = (),
    stored_in: str = "",
) -> Table:
    inherited = base.columns if base is not None else ()
    own = tuple(columns)
    pk = pk or (base.pk if base is not None and not base.abstract else f"{logical}id")
    if pk not in {c.name for c in (*inherited, *own)}:
        own = (_column(pk, "id", label), *own)
    schema = schema_name or _schema_name(logical)
    return Table(
        logical=logical,
        schema_name=schema,
        set_name=set_name,
        pk=pk,
        name_column=name_column,
        label=label,
        type_code=type_code,
        columns=(*inherited, *own),
        privilege=privilege or schema,
        base=base.logical if base is not None else None,
        abstract=abstract,
        owned=any(c.name == "owninguser" for c in (*inherited, *own)),
        keys=keys,
        stored_in=stored_in or (base.stored_in if base and not base.abstract else logical),
        inherited=frozenset(c.name for c in inherited),
    )


def _people() -> tuple[Table, ...]:
    principal = _table(
        "principal",
        "principals",
        "Principal",
        (_column("ownerid", "id", "Owner"),),
        type_code=0,
        pk="ownerid",
        name_column=None,
        privilege="User",
        abstract=True,
    )
    systemuser = _table(
        "systemuser",
        "systemusers",
        "User",
        (
            _text("fullname", "Full Name", 200),
            _text("firstname", "First Name", 64),
            _text("lastname", "Last Name", 64),
            _text("internalemailaddress", "Primary Email", 100),
            _text("domainname", "User Name", 1024),
            _text("title", "Title", 128),
            _column("azureactivedirectoryobjectid", "guid", "Azure AD Object ID"),
            _column("applicationid", "guid", "Application ID"),
            _column("isdisabled", "bool", "Status", options=((0, "Enabled"), (1, "Disabled"))),
            _choice(
                "accessmode",
                "Access Mode",
                (0, "Read-Write"),
                (1, "Administrative"),
                (2, "Read"),
                (3, "Support User"),
                (4, "Non-interactive"),
            ),
            _lookup("businessunitid", "Business Unit", "businessunit"),
            *_dates(),
        ),
        type_code=8,
        name_column="fullname",
        schema_name="SystemUser",
        privilege="User",
        pk="systemuserid",
        base=principal,
        keys=(Key(name="aadobjectid_key", columns=("azureactivedirectoryobjectid",)),),
    )
    team = _table(
        "team",
        "teams",
        "Team",
        (
            _text("name", "Team Name", 160, required=True),
            _memo("description", "Description"),
            _lookup("businessunitid", "Business Unit", "businessunit"),
            *_dates(),
        ),
        type_code=9,
        pk="teamid",
        base=principal,
    )
    return (
        principal,
        systemuser,
        team,
        _table(
            "role",
            "roles",
            "Security Role",
            (
                _text("name", "Name", required=True),
                _lookup("businessunitid", "Business Unit", "businessunit"),
                *_dates(),
            ),
            type_code=1036,
        ),
        _table(
            "privilege",
            "privileges",
            "Privilege",
            (_text("name", "Name"), _column("accessright", "int", "Access Right"), *_dates()),
            type_code=1023,
        ),
        _table(
            "businessunit",
            "businessunits",
            "Business Unit",
            (
                _text("name", "Name", 160, required=True),
                _lookup("parentbusinessunitid", "Parent Business", "businessunit"),
                *_dates(),
            ),
            type_code=10,
            schema_name="BusinessUnit",
        ),
        _table(
            "organization",
            "organizations",
            "Organization",
            (_text("name", "Organization Name", 160), *_dates()),
            type_code=1019,
        ),
        _table(
            "transactioncurrency",
            "transactioncurrencies",
            "Currency",
            (
                _text("currencyname", "Currency Name"),
                _text("isocurrencycode", "Currency Code", 5),
                _text("currencysymbol", "Currency Symbol", 13),
                _column("exchangerate", "decimal", "Exchange Rate"),
                *_dates(),
            ),
            type_code=9105,
            name_column="currencyname",
            schema_name="TransactionCurrency",
        ),
    )


def _account() -> Table:
    return _table(
        "account",
        "accounts",
        "Account",
        (
            _text("name", "Account Name", 160, required=True),
            _text("accountnumber", "Account Number", 20),
            _text("telephone1", "Main Phone", 50),
            _text("emailaddress1", "Email", 100),
            _text("websiteurl", "Website", 200),
            _memo("description", "Description"),
            _column("revenue", "money", "Annual Revenue"),
            _column("creditlimit", "money", "Credit Limit"),
            _column("creditonhold", "bool", "Credit Hold", options=((0, "No"), (1, "Yes"))),
            _choice(
                "industrycode",
                "Industry",
                (1, "Accounting"),
                (6, "Business Services"),
                (7, "Consulting"),
                (12, "Financial"),
                (33, "Wholesale"),
            ),
            _choice("accountcategorycode", "Category", (1, "Preferred Customer"), (2, "Standard")),
            _choice("customertypecode", "Relationship Type", (1, "Competitor"), (3, "Customer")),
            _column(
                "new_channels",
                "choices",
                "Channels",
                options=((1, "Web"), (2, "Phone"), (3, "Mail"), (4, "Shop")),
            ),
            _column("numberofemployees", "int", "Number of Employees"),
            _text("address1_line1", "Address 1: Street 1", 250),
            _text("address1_city", "Address 1: City", 80),
            _text("address1_stateorprovince", "Address 1: State/Province", 50),
            _text("address1_postalcode", "Address 1: ZIP/Postal Code", 20),
            _text("address1_country", "Address 1: Country/Region", 80),
            _computed("address1_composite", "Address 1"),
            _column("new_riskscore", "int", "Risk Score"),
            _column("entityimage", "image", "Default Image"),
            _computed("entityimage_url", "Default Image URL"),
            _column("new_contractfile", "file", "Contract", writable=False),
            _computed("new_contractfile_name", "Contract Name"),
            _lookup("primarycontactid", "Primary Contact", "contact"),
            _lookup("parentaccountid", "Parent Account", "account"),
            _lookup("transactioncurrencyid", "Currency", "transactioncurrency"),
            *_state(),
            *_dates(),
            *_ownership(),
        ),
        type_code=1,
        keys=(
            Key(name="accountnumber_key", columns=("accountnumber",)),
            Key(name="primarycontact_key", columns=("primarycontactid",)),
        ),
    )


def _contact() -> Table:
    return _table(
        "contact",
        "contacts",
        "Contact",
        (
            _computed("fullname", "Full Name"),
            _text("firstname", "First Name", 50),
            _text("lastname", "Last Name", 50, required=True),
            _text("emailaddress1", "Email", 100),
            _text("telephone1", "Business Phone", 50),
            _text("mobilephone", "Mobile Phone", 50),
            _text("jobtitle", "Job Title", 100),
            _column("birthdate", "date", "Birthday"),
            _text("governmentid", "Government", 50),
            _column("annualincome", "money", "Annual Income"),
            _column("creditlimit", "money", "Credit Limit"),
            _memo("description", "Description"),
            _lookup("parentcustomerid", "Company Name", "account", "contact"),
            _lookup("transactioncurrencyid", "Currency", "transactioncurrency"),
            *_state(),
            *_dates(),
            *_ownership(),
        ),
        type_code=2,
        name_column="fullname",
        keys=(
            Key(name="name_email_key", columns=("firstname", "emailaddress1")),
            Key(name="governmentid_key", columns=("governmentid",)),
        ),
    )


def _sales() -> tuple[Table, ...]:
    return (
        _table(
            "invoice",
            "invoices",
            "Invoice",
            (
                _text("name", "Name", 300, required=True),
                _text("invoicenumber", "Invoice ID", 100),
                _column("totalamount", "money", "Total Amount"),
                _column("totaltax", "money", "Total Tax"),
                _column("duedate", "date", "Due Date"),
                _memo("description", "Description"),
                _column("new_margin", "money", "Margin"),
                _lookup("customerid", "Customer", "account", "contact"),
                _lookup("transactioncurrencyid", "Currency", "transactioncurrency"),
                *_state("Active", "Closed"),
                *_dates(),
                *_ownership(),
            ),
            type_code=1090,
            keys=(Key(name="invoicenumber_key", columns=("invoicenumber",)),),
        ),
        _table(
            "invoicedetail",
            "invoicedetails",
            "Invoice Product",
            (
                _text("productdescription", "Write-In Product", 500),
                _column("quantity", "decimal", "Quantity"),
                _column("priceperunit", "decimal", "Price Per Unit"),
                _column("new_internalcost", "decimal", "Internal Cost"),
                _lookup("invoiceid", "Invoice ID", "invoice"),
                *_state(),
                *_dates(),
            ),
            type_code=1091,
            name_column="productdescription",
            schema_name="InvoiceDetail",
        ),
        _table(
            "opportunity",
            "opportunities",
            "Opportunity",
            (
                _text("name", "Topic", 300, required=True),
                _column("estimatedvalue", "money", "Est. Revenue"),
                _memo("description", "Description"),
                _lookup("customerid", "Potential Customer", "account", "contact"),
                _lookup("transactioncurrencyid", "Currency", "transactioncurrency"),
                *_state("Open", "Won"),
                *_dates(),
                *_ownership(),
            ),
            type_code=3,
        ),
    )


def _activities() -> tuple[Table, ...]:
    pointer = _table(
        "activitypointer",
        "activitypointers",
        "Activity",
        (
            _text("subject", "Subject", 200),
            _memo("description", "Description"),
            _column("activitytypecode", "string", "Activity Type", length=64, writable=False),
            _lookup("regardingobjectid", "Regarding", "account", "contact", "opportunity"),
            *_state("Open", "Completed"),
            *_dates(),
            *_ownership(),
        ),
        type_code=4200,
        name_column="subject",
        schema_name="ActivityPointer",
        privilege="Activity",
        pk="activityid",
    )
    return (
        pointer,
        _table(
            "task",
            "tasks",
            "Task",
            (_column("scheduledend", "datetime", "Due Date"),),
            type_code=4212,
            name_column="subject",
            privilege="Activity",
            base=pointer,
        ),
        _table(
            "phonecall",
            "phonecalls",
            "Phone Call",
            (
                _text("phonenumber", "Phone Number", 200),
                _column("directioncode", "bool", "Direction"),
            ),
            type_code=4210,
            name_column="subject",
            schema_name="PhoneCall",
            privilege="Activity",
            base=pointer,
        ),
        _table(
            "annotation",
            "annotations",
            "Note",
            (
                _text("subject", "Title", 500),
                _memo("notetext", "Description", 100_000),
                _text("filename", "File Name", 255),
                _memo("documentbody", "Document", 10_000_000),
                _lookup("objectid", "Regarding", "account", "contact", "invoice"),
                *_dates(),
                *_ownership(),
            ),
            type_code=5,
            name_column="subject",
            privilege="Note",
        ),
        _table(
            "fileattachment",
            "fileattachments",
            "File Attachment",
            (
                _text("filename", "File Name", 255),
                _text("mimetype", "Mime Type", 256),
                _column("filesizeinbytes", "bigint", "File Size (Bytes)"),
                _text("regardingfieldname", "Regarding Field", 128),
                _lookup("objectid", "Regarding", "account"),
                *_dates(),
            ),
            type_code=55,
            name_column="filename",
            schema_name="FileAttachment",
        ),
    )


def _project() -> tuple[Table, ...]:
    return (
        _table(
            "new_project",
            "new_projects",
            "Project",
            (
                _text("new_name", "Name", 100, required=True),
                _text("new_code", "Code", 20),
                _choice(
                    "new_status", "Project Status", (1, "Running"), (2, "Closed"), (3, "On Hold")
                ),
                _column("new_budget", "decimal", "Budget"),
                _memo("new_secretnotes", "Confidential Notes"),
                _lookup("new_accountid", "Account", "account", schema_name="new_AccountId"),
                _lookup("new_managerid", "Manager", "systemuser", schema_name="new_ManagerId"),
                *_state(),
                *_dates(),
                *_ownership(),
            ),
            type_code=10_001,
            name_column="new_name",
            schema_name="new_Project",
            keys=(Key(name="new_code_key", columns=("new_code",)),),
        ),
        _table(
            "new_secret",
            "new_secrets",
            "Secret",
            (_text("new_name", "Name"), _text("new_value", "Value", 400), *_dates()),
            type_code=10_002,
            name_column="new_name",
            schema_name="new_Secret",
        ),
    )


def _system() -> tuple[Table, ...]:
    def query(logical: str, set_name: str, label: str, schema: str, privilege: str) -> Table:
        return _table(
            logical,
            set_name,
            label,
            (
                _text("name", "Name", 200),
                _memo("fetchxml", "FetchXml", 100_000),
                _text("returnedtypecode", "Entity Type", 64),
                *_dates(),
            ),
            type_code=1039 if logical == "savedquery" else 4230,
            schema_name=schema,
            privilege=privilege,
        )

    return (
        query("savedquery", "savedqueries", "View", "SavedQuery", "Query"),
        query("userquery", "userqueries", "Saved View", "UserQuery", "UserQuery"),
        _table(
            "workflow",
            "workflows",
            "Process",
            (_text("name", "Process Name"), _memo("xaml", "Xaml", 100_000), *_dates()),
            type_code=4703,
        ),
        _table(
            "audit",
            "audits",
            "Auditing",
            (_memo("changedata", "Change Data"), _text("objecttypecode", "Entity"), *_dates()),
            type_code=4567,
            name_column=None,
        ),
        _table(
            "teammembership",
            "teammemberships",
            "Team Membership",
            (
                _column("systemuserid", "guid", "User"),
                _column("teamid", "guid", "Team"),
                *_dates(),
            ),
            type_code=23,
            name_column=None,
            schema_name="TeamMembership",
        ),
    )


def build_schema() -> Schema:
    return Schema(
        (
            *_people(),
            _account(),
            _contact(),
            *_sales(),
            *_activities(),
            *_project(),
            *_system(),
        ),
        one_to_many(),
        many_to_many(),
    )

"""Users, teams, roles, activities and the rest of what every environment has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.sandbox.dataverse.declare import (
    choice,
    column,
    dates,
    declare,
    lookup,
    memo,
    ownership,
    state,
    text,
)
from app.sandbox.dataverse.schema import Key

if TYPE_CHECKING:
    from app.sandbox.dataverse.schema import Table


def people() -> tuple[Table, ...]:
    principal = declare(
        "principal",
        "principals",
        "Principal",
        (column("ownerid", "id", "Owner"),),
        type_code=0,
        pk="ownerid",
        name_column=None,
        privilege="User",
        abstract=True,
    )
    systemuser = declare(
        "systemuser",
        "systemusers",
        "User",
        (
            text("fullname", "Full Name", 200),
            text("firstname", "First Name", 64),
            text("lastname", "Last Name", 64),
            text("internalemailaddress", "Primary Email", 100),
            text("domainname", "User Name", 1024),
            text("title", "Title", 128),
            column("azureactivedirectoryobjectid", "guid", "Azure AD Object ID"),
            column("applicationid", "guid", "Application ID"),
            column("isdisabled", "bool", "Status", options=((0, "Enabled"), (1, "Disabled"))),
            choice(
                "accessmode",
                "Access Mode",
                (0, "Read-Write"),
                (1, "Administrative"),
                (2, "Read"),
                (3, "Support User"),
                (4, "Non-interactive"),
            ),
            lookup("businessunitid", "Business Unit", "businessunit"),
            *dates(),
        ),
        type_code=8,
        name_column="fullname",
        schema_name="SystemUser",
        privilege="User",
        pk="systemuserid",
        base=principal,
        keys=(Key(name="aadobjectid_key", columns=("azureactivedirectoryobjectid",)),),
    )
    team = declare(
        "team",
        "teams",
        "Team",
        (
            text("name", "Team Name", 160, required=True),
            memo("description", "Description"),
            lookup("businessunitid", "Business Unit", "businessunit"),
            *dates(),
        ),
        type_code=9,
        pk="teamid",
        base=principal,
    )
    return (
        principal,
        systemuser,
        team,
        declare(
            "role",
            "roles",
            "Security Role",
            (
                text("name", "Name", required=True),
                lookup("businessunitid", "Business Unit", "businessunit"),
                *dates(),
            ),
            type_code=1036,
        ),
        declare(
            "privilege",
            "privileges",
            "Privilege",
            (text("name", "Name"), column("accessright", "int", "Access Right"), *dates()),
            type_code=1023,
        ),
        declare(
            "businessunit",
            "businessunits",
            "Business Unit",
            (
                text("name", "Name", 160, required=True),
                lookup("parentbusinessunitid", "Parent Business", "businessunit"),
                *dates(),
            ),
            type_code=10,
            schema_name="BusinessUnit",
        ),
        declare(
            "organization",
            "organizations",
            "Organization",
            (text("name", "Organization Name", 160), *dates()),
            type_code=1019,
        ),
        declare(
            "transactioncurrency",
            "transactioncurrencies",
            "Currency",
            (
                text("currencyname", "Currency Name"),
                text("isocurrencycode", "Currency Code", 5),
                text("currencysymbol", "Currency Symbol", 13),
                column("exchangerate", "decimal", "Exchange Rate"),
                *dates(),
            ),
            type_code=9105,
            name_column="currencyname",
            schema_name="TransactionCurrency",
        ),
    )


def activities() -> tuple[Table, ...]:
    pointer = declare(
        "activitypointer",
        "activitypointers",
        "Activity",
        (
            text("subject", "Subject", 200),
            memo("description", "Description"),
            column("activitytypecode", "string", "Activity Type", length=64, writable=False),
            lookup("regardingobjectid", "Regarding", "account", "contact", "opportunity"),
            *state("Open", "Completed"),
            *dates(),
            *ownership(),
        ),
        type_code=4200,
        name_column="subject",
        schema_name="ActivityPointer",
        privilege="Activity",
        pk="activityid",
    )
    return (
        pointer,
        declare(
            "task",
            "tasks",
            "Task",
            (column("scheduledend", "datetime", "Due Date"),),
            type_code=4212,
            name_column="subject",
            privilege="Activity",
            base=pointer,
        ),
        declare(
            "phonecall",
            "phonecalls",
            "Phone Call",
            (
                text("phonenumber", "Phone Number", 200),
                column("directioncode", "bool", "Direction"),
            ),
            type_code=4210,
            name_column="subject",
            schema_name="PhoneCall",
            privilege="Activity",
            base=pointer,
        ),
        declare(
            "annotation",
            "annotations",
            "Note",
            (
                text("subject", "Title", 500),
                memo("notetext", "Description", 100_000),
                text("filename", "File Name", 255),
                memo("documentbody", "Document", 10_000_000),
                lookup("objectid", "Regarding", "account", "contact", "invoice"),
                *dates(),
                *ownership(),
            ),
            type_code=5,
            name_column="subject",
            privilege="Note",
        ),
        declare(
            "fileattachment",
            "fileattachments",
            "File Attachment",
            (
                text("filename", "File Name", 255),
                text("mimetype", "Mime Type", 256),
                column("filesizeinbytes", "bigint", "File Size (Bytes)"),
                text("regardingfieldname", "Regarding Field", 128),
                lookup("objectid", "Regarding", "account"),
                *dates(),
            ),
            type_code=55,
            name_column="filename",
            schema_name="FileAttachment",
        ),
    )


def stored_queries_and_such() -> tuple[Table, ...]:
    def query(logical: str, set_name: str, label: str, schema: str, privilege: str) -> Table:
        return declare(
            logical,
            set_name,
            label,
            (
                text("name", "Name", 200),
                memo("fetchxml", "FetchXml", 100_000),
                text("returnedtypecode", "Entity Type", 64),
                *dates(),
            ),
            type_code=1039 if logical == "savedquery" else 4230,
            schema_name=schema,
            privilege=privilege,
        )

    return (
        query("savedquery", "savedqueries", "View", "SavedQuery", "Query"),
        query("userquery", "userqueries", "Saved View", "UserQuery", "UserQuery"),
        declare(
            "workflow",
            "workflows",
            "Process",
            (text("name", "Process Name"), memo("xaml", "Xaml", 100_000), *dates()),
            type_code=4703,
        ),
        declare(
            "audit",
            "audits",
            "Auditing",
            (memo("changedata", "Change Data"), text("objecttypecode", "Entity"), *dates()),
            type_code=4567,
            name_column=None,
        ),
        declare(
            "teammembership",
            "teammemberships",
            "Team Membership",
            (
                column("systemuserid", "guid", "User"),
                column("teamid", "guid", "Team"),
                *dates(),
            ),
            type_code=23,
            name_column=None,
            schema_name="TeamMembership",
        ),
    )

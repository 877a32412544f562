"""The business tables that the sandbox serves, and the schema of all of them."""

from __future__ import annotations

from app.sandbox.dataverse.declare import (
    choice,
    column,
    computed,
    dates,
    declare,
    lookup,
    memo,
    ownership,
    state,
    text,
)
from app.sandbox.dataverse.relationships import many_to_many, one_to_many
from app.sandbox.dataverse.schema import Key, Schema, Table
from app.sandbox.dataverse.system_tables import activities, people, stored_queries_and_such


def _account() -> Table:
    return declare(
        "account",
        "accounts",
        "Account",
        (
            text("name", "Account Name", 160, required=True),
            text("accountnumber", "Account Number", 20),
            text("telephone1", "Main Phone", 50),
            text("emailaddress1", "Email", 100),
            text("websiteurl", "Website", 200),
            memo("description", "Description"),
            column("revenue", "money", "Annual Revenue"),
            column("creditlimit", "money", "Credit Limit"),
            column("creditonhold", "bool", "Credit Hold", options=((0, "No"), (1, "Yes"))),
            choice(
                "industrycode",
                "Industry",
                (1, "Accounting"),
                (6, "Business Services"),
                (7, "Consulting"),
                (12, "Financial"),
                (33, "Wholesale"),
            ),
            choice("accountcategorycode", "Category", (1, "Preferred Customer"), (2, "Standard")),
            choice("customertypecode", "Relationship Type", (1, "Competitor"), (3, "Customer")),
            column(
                "new_channels",
                "choices",
                "Channels",
                options=((1, "Web"), (2, "Phone"), (3, "Mail"), (4, "Shop")),
            ),
            column("numberofemployees", "int", "Number of Employees"),
            text("address1_line1", "Address 1: Street 1", 250),
            text("address1_city", "Address 1: City", 80),
            text("address1_stateorprovince", "Address 1: State/Province", 50),
            text("address1_postalcode", "Address 1: ZIP/Postal Code", 20),
            text("address1_country", "Address 1: Country/Region", 80),
            computed("address1_composite", "Address 1"),
            column("new_riskscore", "int", "Risk Score"),
            column("entityimage", "image", "Default Image"),
            computed("entityimage_url", "Default Image URL"),
            column("new_contractfile", "file", "Contract", writable=False),
            computed("new_contractfile_name", "Contract Name"),
            lookup("primarycontactid", "Primary Contact", "contact"),
            lookup("parentaccountid", "Parent Account", "account"),
            lookup("transactioncurrencyid", "Currency", "transactioncurrency"),
            *state(),
            *dates(),
            *ownership(),
        ),
        type_code=1,
        keys=(
            Key(name="accountnumber_key", columns=("accountnumber",)),
            Key(name="primarycontact_key", columns=("primarycontactid",)),
        ),
    )


def _contact() -> Table:
    return declare(
        "contact",
        "contacts",
        "Contact",
        (
            computed("fullname", "Full Name"),
            text("firstname", "First Name", 50),
            text("lastname", "Last Name", 50, required=True),
            text("emailaddress1", "Email", 100),
            text("telephone1", "Business Phone", 50),
            text("mobilephone", "Mobile Phone", 50),
            text("jobtitle", "Job Title", 100),
            column("birthdate", "date", "Birthday"),
            text("governmentid", "Government", 50),
            column("annualincome", "money", "Annual Income"),
            column("creditlimit", "money", "Credit Limit"),
            memo("description", "Description"),
            lookup("parentcustomerid", "Company Name", "account", "contact"),
            lookup("transactioncurrencyid", "Currency", "transactioncurrency"),
            *state(),
            *dates(),
            *ownership(),
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
        declare(
            "invoice",
            "invoices",
            "Invoice",
            (
                text("name", "Name", 300, required=True),
                text("invoicenumber", "Invoice ID", 100),
                column("totalamount", "money", "Total Amount"),
                column("totaltax", "money", "Total Tax"),
                column("duedate", "date", "Due Date"),
                memo("description", "Description"),
                column("new_margin", "money", "Margin"),
                lookup("customerid", "Customer", "account", "contact"),
                lookup("transactioncurrencyid", "Currency", "transactioncurrency"),
                *state("Active", "Closed"),
                *dates(),
                *ownership(),
            ),
            type_code=1090,
            keys=(Key(name="invoicenumber_key", columns=("invoicenumber",)),),
        ),
        declare(
            "invoicedetail",
            "invoicedetails",
            "Invoice Product",
            (
                text("productdescription", "Write-In Product", 500),
                column("quantity", "decimal", "Quantity"),
                column("priceperunit", "decimal", "Price Per Unit"),
                column("new_internalcost", "decimal", "Internal Cost"),
                lookup("invoiceid", "Invoice ID", "invoice"),
                *state(),
                *dates(),
            ),
            type_code=1091,
            name_column="productdescription",
            schema_name="InvoiceDetail",
        ),
        declare(
            "opportunity",
            "opportunities",
            "Opportunity",
            (
                text("name", "Topic", 300, required=True),
                column("estimatedvalue", "money", "Est. Revenue"),
                memo("description", "Description"),
                lookup("customerid", "Potential Customer", "account", "contact"),
                lookup("transactioncurrencyid", "Currency", "transactioncurrency"),
                *state("Open", "Won"),
                *dates(),
                *ownership(),
            ),
            type_code=3,
        ),
    )


def _project() -> tuple[Table, ...]:
    return (
        declare(
            "new_project",
            "new_projects",
            "Project",
            (
                text("new_name", "Name", 100, required=True),
                text("new_code", "Code", 20),
                choice(
                    "new_status", "Project Status", (1, "Running"), (2, "Closed"), (3, "On Hold")
                ),
                column("new_budget", "decimal", "Budget"),
                memo("new_secretnotes", "Confidential Notes"),
                lookup("new_accountid", "Account", "account", schema_name="new_AccountId"),
                lookup("new_managerid", "Manager", "systemuser", schema_name="new_ManagerId"),
                *state(),
                *dates(),
                *ownership(),
            ),
            type_code=10_001,
            name_column="new_name",
            schema_name="new_Project",
            keys=(Key(name="new_code_key", columns=("new_code",)),),
        ),
        declare(
            "new_secret",
            "new_secrets",
            "Secret",
            (text("new_name", "Name"), text("new_value", "Value", 400), *dates()),
            type_code=10_002,
            name_column="new_name",
            schema_name="new_Secret",
        ),
    )


def build_schema() -> Schema:
    return Schema(
        (
            *people(),
            _account(),
            _contact(),
            *_sales(),
            *activities(),
            *_project(),
            *stored_queries_and_such(),
        ),
        one_to_many(),
        many_to_many(),
    )

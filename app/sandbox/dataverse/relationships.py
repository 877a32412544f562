"""Which table points at which, and the names of the navigation properties on either side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.sandbox.dataverse.schema import ManyToMany, OneToMany

if TYPE_CHECKING:
    from collections.abc import Iterable

_OWNED = (
    # logical name, the plural in the names of owner_…, and the stem of lk_…_createdby
    ("account", "accounts", "accountbase"),
    ("contact", "contacts", "contactbase"),
    ("invoice", "invoices", "invoicebase"),
    ("opportunity", "opportunities", "opportunitybase"),
    ("activitypointer", "activitypointers", "activitypointerbase"),
    ("annotation", "annotations", "annotationbase"),
    ("new_project", "new_projects", "new_project"),
)


def _ownership() -> Iterable[OneToMany]:
    for child, plural, stem in _OWNED:
        for lookup, parent, collection in (
            ("ownerid", "principal", f"owner_{plural}"),
            ("owninguser", "systemuser", f"user_{plural}"),
            ("owningteam", "team", f"team_{plural}"),
            ("owningbusinessunit", "businessunit", f"business_unit_{plural}"),
            ("createdby", "systemuser", f"lk_{stem}_createdby"),
            ("modifiedby", "systemuser", f"lk_{stem}_modifiedby"),
            ("createdonbehalfby", "systemuser", f"lk_{stem}_createdonbehalfby"),
            ("modifiedonbehalfby", "systemuser", f"lk_{stem}_modifiedonbehalfby"),
        ):
            yield OneToMany(
                name=collection,
                child=child,
                lookup=lookup,
                nav=lookup,
                parent=parent,
                collection=collection,
            )


_RELATIONS = (
    # child, lookup, navigation property, parent, collection, cascades
    ("account", "primarycontactid", "primarycontactid", "contact", "account_primary_contact", 0),
    ("account", "parentaccountid", "parentaccountid", "account", "account_parent_account", 0),
    (
        "account",
        "transactioncurrencyid",
        "transactioncurrencyid",
        "transactioncurrency",
        "transactioncurrency_account",
        0,
    ),
    (
        "contact",
        "parentcustomerid",
        "parentcustomerid_account",
        "account",
        "contact_customer_accounts",
        0,
    ),
    (
        "contact",
        "parentcustomerid",
        "parentcustomerid_contact",
        "contact",
        "contact_customer_contacts",
        0,
    ),
    (
        "contact",
        "transactioncurrencyid",
        "transactioncurrencyid",
        "transactioncurrency",
        "transactioncurrency_contact",
        0,
    ),
    ("invoice", "customerid", "customerid_account", "account", "invoice_customer_accounts", 0),
    ("invoice", "customerid", "customerid_contact", "contact", "invoice_customer_contacts", 0),
    (
        "invoice",
        "transactioncurrencyid",
        "transactioncurrencyid",
        "transactioncurrency",
        "transactioncurrency_invoice",
        0,
    ),
    ("invoicedetail", "invoiceid", "invoiceid", "invoice", "invoice_details", 1),
    (
        "opportunity",
        "customerid",
        "customerid_account",
        "account",
        "opportunity_customer_accounts",
        0,
    ),
    (
        "opportunity",
        "customerid",
        "customerid_contact",
        "contact",
        "opportunity_customer_contacts",
        0,
    ),
    (
        "opportunity",
        "transactioncurrencyid",
        "transactioncurrencyid",
        "transactioncurrency",
        "transactioncurrency_opportunity",
        0,
    ),
    ("task", "regardingobjectid", "regardingobjectid_account_task", "account", "Account_Tasks", 1),
    ("task", "regardingobjectid", "regardingobjectid_contact_task", "contact", "Contact_Tasks", 1),
    (
        "task",
        "regardingobjectid",
        "regardingobjectid_opportunity_task",
        "opportunity",
        "Opportunity_Tasks",
        1,
    ),
    (
        "phonecall",
        "regardingobjectid",
        "regardingobjectid_account_phonecall",
        "account",
        "Account_Phonecalls",
        1,
    ),
    (
        "phonecall",
        "regardingobjectid",
        "regardingobjectid_contact_phonecall",
        "contact",
        "Contact_Phonecalls",
        1,
    ),
    ("annotation", "objectid", "objectid_account", "account", "Account_Annotation", 1),
    ("annotation", "objectid", "objectid_contact", "contact", "Contact_Annotation", 1),
    ("annotation", "objectid", "objectid_invoice", "invoice", "Invoice_Annotation", 1),
    ("fileattachment", "objectid", "objectid_account", "account", "account_FileAttachments", 1),
    ("new_project", "new_accountid", "new_AccountId", "account", "new_project_AccountId", 0),
    (
        "new_project",
        "new_managerid",
        "new_ManagerId",
        "systemuser",
        "new_systemuser_new_project_ManagerId",
        0,
    ),
    (
        "systemuser",
        "businessunitid",
        "businessunitid",
        "businessunit",
        "business_unit_system_users",
        0,
    ),
    ("team", "businessunitid", "businessunitid", "businessunit", "business_unit_teams", 0),
    ("role", "businessunitid", "businessunitid", "businessunit", "business_unit_roles", 0),
    (
        "businessunit",
        "parentbusinessunitid",
        "parentbusinessunitid",
        "businessunit",
        "business_unit_parent_business_unit",
        0,
    ),
)

_ASSOCIATIONS = (
    # name, left, right, intersect; either side's navigation property has the relation's name
    ("new_new_project_contact", "new_project", "contact", "new_new_project_contact"),
    ("systemuserroles_association", "systemuser", "role", "systemuserroles"),
    ("teamroles_association", "team", "role", "teamroles"),
    ("teammembership_association", "team", "systemuser", "teammembership_pairs"),
    ("roleprivileges_association", "role", "privilege", "roleprivileges"),
)


def one_to_many() -> Iterable[OneToMany]:
    yield from _ownership()
    for child, lookup, nav, parent, collection, cascades in _RELATIONS:
        yield OneToMany(
            name=collection,
            child=child,
            lookup=lookup,
            nav=nav,
            parent=parent,
            collection=collection,
            cascades=bool(cascades),
        )


def many_to_many() -> Iterable[ManyToMany]:
    for name, left, right, intersect in _ASSOCIATIONS:
        yield ManyToMany(
            name=name,
            left=left,
            left_nav=name,
            right=right,
            right_nav=name,
            intersect=intersect,
        )

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx2

    from app.sandbox.dataverse.app import DataverseApp

pytestmark = pytest.mark.anyio

CONTOSO = "accounts(11111111-1111-1111-1111-111111111111)"
CONTACT = "/contacts(22222222-2222-2222-2222-222222222222)"
XML = (
    "<fetch><entity name='account'><attribute name='name'/><filter><condition "
    "attribute='revenue' operator='gt' value='1'/></filter><link-entity name='contact' "
    "from='parentcustomerid' to='accountid'><attribute name='fullname'/></link-entity>"
    "</entity></fetch>"
)


@pytest.mark.parametrize(
    ("method", "target", "body", "touched"),
    [
        ("GET", "WhoAmI", None, {"Call WhoAmI"}),
        (
            "GET",
            "accounts?$select=name,revenue&$filter=statecode eq 0",
            None,
            {
                "Read account",
                "Read account.name",
                "Read account.revenue",
                "Read account.statecode",
                "Unasked account.accountid",
                "Unasked account.transactioncurrencyid",
            },
        ),
        (
            "GET",
            f"{CONTOSO}?$select=name&$expand=primarycontactid($select=fullname)",
            None,
            {
                "Read account",
                "Read account.name",
                "Read account.primarycontactid",
                "Read contact",
                "Read contact.fullname",
                "Unasked account.accountid",
                "Unasked contact.contactid",
            },
        ),
        (
            "GET",
            f"{CONTOSO}/contact_customer_accounts/$count",
            None,
            {
                "Read account",
                "Read contact",
                "Read contact.parentcustomerid",
                "Unasked contact.contactid",
            },
        ),
        (
            "GET",
            "accounts/$count?$filter=contact_customer_accounts/any(c:c/governmentid eq '1')",
            None,
            {
                "Read account",
                "Read contact",
                "Read contact.governmentid",
                "Read contact.parentcustomerid",
                "Unasked account.accountid",
            },
        ),
        (
            "GET",
            f"accounts?fetchXml={XML}",
            None,
            {
                "Read account",
                "Read account.accountid",
                "Read account.name",
                "Read account.revenue",
                "Read contact",
                "Read contact.fullname",
                "Read contact.parentcustomerid",
            },
        ),
        (
            "GET",
            "accounts?sql=SELECT a.name FROM account a",
            None,
            {"Read account", "Read account.name"},
        ),
        (
            "PATCH",
            CONTOSO,
            {"name": "x", "parentaccountid@odata.bind": f"/{CONTOSO}"},
            {
                "Append account",
                "AppendTo account",
                "Write account",
                "Write account.name",
                "Write account.parentaccountid",
            },
        ),
        (
            "PATCH",
            "accounts(accountnumber='N')",
            {"name": "x"},
            {
                "Create account",
                "Create account.accountnumber",
                "Create account.name",
                "Read account.accountnumber",
            },
        ),
        (
            "POST",
            "invoices",
            {"name": "x", "invoice_details": [{"quantity": 1}]},
            {
                "Create invoice",
                "Create invoice.name",
                "Create invoicedetail",
                "Create invoicedetail.invoiceid",
                "Create invoicedetail.quantity",
            },
        ),
        (
            "POST",
            f"{CONTOSO}/contact_customer_accounts/$ref",
            {"@odata.id": CONTACT},
            {
                "Append contact",
                "AppendTo account",
                "Write contact",
                "Write contact.parentcustomerid",
            },
        ),
        ("DELETE", CONTOSO, None, {"Delete account"}),
        ("PUT", f"{CONTOSO}/name", {"value": "x"}, {"Write account", "Write account.name"}),
    ],
)
async def test_what_a_request_touched_is_noted(  # noqa: PLR0917 - a table of cases
    app: DataverseApp,
    client: httpx2.AsyncClient,
    method: str,
    target: str,
    body: Any,
    touched: set[str],
) -> None:
    answer = await client.request(method, target, json=body)
    assert answer.status_code < 300, answer.text
    found = {f"{t.operation} {t.table}.{t.column}".rstrip(".") for t in app.journal.last.footprint}
    assert found == touched


async def test_parts_of_a_batch_are_noted_together(
    app: DataverseApp, client: httpx2.AsyncClient
) -> None:
    part = "--b\r\nContent-Type: application/http\r\n\r\nGET {} HTTP/1.1\r\n\r\n\r\n"
    await client.post(
        "$batch",
        content=part.format("accounts?$select=name") + part.format("tasks/$count") + "--b--",
        headers={"Content-Type": "multipart/mixed; boundary=b"},
    )
    assert {t.table for t in app.journal.last.footprint} == {"account", "task"}

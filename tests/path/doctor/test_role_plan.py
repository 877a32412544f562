"""The role that is planned is exactly enough: sent as it is written, it lets the grants work."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.config.loading import load
from app.doctor.choice import NothingChosen
from app.doctor.finding import Level
from app.doctor.planning import Wish, plan
from app.doctor.role_plan import calls
from app.doctor.way_in import NoWayIn
from app.sandbox.credentials import ADMINISTRATOR, WITH_CERTIFICATE, WITH_SECRET
from app.sandbox.entra import faults
from tests.path.application_users import as_nobody, set_roles
from tests.path.examining import Patient, around, of_step, the, without_administrator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.doctor.role_plan import Place, RolePlan
    from tests.path.staging import Configuration


def planned(patient: Patient, wish: Wish) -> tuple[RolePlan, Place]:
    async def run() -> tuple[RolePlan, Place]:
        place = around()
        try:
            return await plan(load(patient.config, environ={}).configuration, wish, place)
        finally:
            await place.aclose()

    return asyncio.run(run())


def token_of(patient: Patient, application: str) -> str:
    sandbox = patient.sandbox
    client_id = sandbox.applications[application].client_id
    resource = sandbox.tenant.resource(sandbox.environment_url)
    assert resource is not None
    return sandbox.entra.issue(
        tenant=sandbox.tenant,
        application=sandbox.tenant.applications[client_id],
        resource=resource,
    ).access_token


@pytest.fixture
def administrator(patient: Patient) -> Iterator[httpx.Client]:
    """Whoever sends what was written down."""
    with client_as(patient, ADMINISTRATOR) as client:
        yield client


@contextlib.contextmanager
def client_as(patient: Patient, application: str) -> Iterator[httpx.Client]:
    import ssl

    with httpx.Client(
        base_url=f"{patient.sandbox.environment_url}/api/data/v9.2/",
        verify=ssl.create_default_context(cafile=str(patient.sandbox.ca_file)),
        headers={"Authorization": f"Bearer {token_of(patient, application)}"},
    ) as client:
        yield client


def send(client: httpx.Client, call: dict[str, Any]) -> None:
    answer = client.request(call["method"], call["url"], json=call.get("body"))
    assert answer.status_code == 204, answer.text


def said_as_json(patient: Patient, *arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(
        app,
        ["roles", "plan", *arguments, "--json"],
        env={"BROKER_CONFIG": str(patient.config)},
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_planned_role_lets_its_grants_work_and_nothing_else(
    patient: Patient, administrator: httpx.Client
) -> None:
    patient.configure()
    told = said_as_json(patient, "--application", WITH_SECRET)
    with set_roles(patient.sandbox, WITH_SECRET, "Invoice Integration"):
        for call in told["calls"]:
            send(administrator, call)
        findings = patient.examined()
        assert the(findings, "roles", Level.OK).names == ("Token broker: erp-invoices",)
        assert [f.level for f in of_step(findings, "privileges")] == [Level.OK, Level.OK]

        with client_as(patient, WITH_SECRET) as caller:
            (account,) = caller.get("accounts?$select=name&$top=1").json()["value"]
            made = caller.post(
                "invoices",
                json={
                    "name": "INV",
                    "totalamount": 7,
                    "customerid_account@odata.bind": f"/accounts({account['accountid']})",
                },
                headers={"Prefer": "return=representation"},
            )
            assert made.status_code == 201, made.text
            row = f"invoices({made.json()['invoiceid']})"
            assert caller.patch(row, json={"description": "x"}).status_code == 204
            for refused in (
                caller.delete(row),
                caller.patch(f"accounts({account['accountid']})", json={"name": "x"}),
                caller.get("contacts?$select=fullname"),
            ):
                assert refused.json()["error"]["code"] == "0x80040220"


def test_a_plan_begins_with_the_application_user_where_there_is_none(
    patient: Patient, administrator: httpx.Client
) -> None:
    patient.configure()
    with as_nobody(patient.sandbox, WITH_CERTIFICATE):
        told = said_as_json(patient, "--application", WITH_CERTIFICATE, "--name", "Reports")
        assert [call["why"] for call in told["calls"]] == [
            "makes the application user of erp-reporting",
            "makes the role, empty",
            "gives it its 2 privileges",
            "gives the role to the application user of erp-reporting",
        ]
        for call in told["calls"]:
            send(administrator, call)
        user = told["calls"][0]["body"]["systemuserid"]
        try:
            findings = patient.examined(application=WITH_CERTIFICATE)
            assert the(findings, "roles", Level.OK).names == ("Reports",)
            assert [f.level for f in of_step(findings, "privileges")] == [Level.OK, Level.OK]
        finally:
            assert administrator.delete(f"systemusers({user})").status_code == 204


def test_a_plan_says_for_whom_each_privilege_is_and_how_deep(patient: Patient) -> None:
    patient.configure()
    role, place = planned(patient, Wish(WITH_SECRET))
    assert [(p.table, p.name, p.depth, p.why) for p in role.privileges] == [
        (table, name, depth, ("invoice-loader",))
        for table, name, depth in (
            ("accounts", "prvAppendToAccount", "Global"),
            ("accounts", "prvReadAccount", "Global"),
            ("invoices", "prvAppendInvoice", "Global"),
            ("invoices", "prvCreateInvoice", "Basic"),
            ("invoices", "prvReadInvoice", "Global"),
            ("invoices", "prvWriteInvoice", "Global"),
            ("transactioncurrencies", "prvAppendToTransactionCurrency", "Global"),
            ("transactioncurrencies", "prvReadTransactionCurrency", "Global"),
        )
    ]
    assert [name for name, _ in place.roles] == ["Invoice Integration"]
    last = calls(role, place)[-1]
    assert last.method == "DELETE"
    assert last.why == "takes Invoice Integration away, once everything works without it"


def test_a_plan_is_the_same_each_time(patient: Patient) -> None:
    patient.configure()
    first, second = (planned(patient, Wish(WITH_SECRET)) for _ in range(2))
    assert first == second
    assert calls(*first) == calls(*second)


def test_no_privilege_is_deeper_than_is_wished(patient: Patient) -> None:
    patient.configure()
    role, _ = planned(patient, Wish(WITH_SECRET, depth="Local"))
    by_name = {p.name: p.depth for p in role.privileges}
    assert by_name["prvReadAccount"] == "Local"
    assert by_name["prvCreateInvoice"] == "Basic"


def test_what_cannot_be_counted_is_said(patient: Patient) -> None:
    def change(configuration: Configuration) -> None:
        (grant,) = configuration["callers"]["invoice-loader"]["grants"]
        grant["actions"] = ["new_CloseProject"]
        grant["impersonate"] = {"as": "e39c5d16-675b-48d1-8e67-667427e9c084"}

    patient.configure(change)
    role, _ = planned(patient, Wish(WITH_SECRET))
    assert role.unseen == ("new_CloseProject",)
    assert "prvActOnBehalfOfAnotherUser" in {p.name for p in role.privileges}
    assert all(p.id for p in role.privileges)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish("erp-invoice"), "did you mean 'erp-invoices'"),
        (Wish(ADMINISTRATOR), "no grant lets anybody be platform-admin"),
        (Wish(WITH_SECRET, "nowhere"), "no such environment: nowhere"),
    ],
    ids=["no-application", "no-grant", "no-environment"],
)
def test_a_wish_that_cannot_be_met_is_told_why(patient: Patient, wish: Wish, said: str) -> None:
    patient.configure()
    with pytest.raises(NothingChosen, match=said):
        planned(patient, wish)


def test_an_application_of_several_environments_is_asked_for_one(patient: Patient) -> None:
    def change(configuration: Configuration) -> None:
        configuration["environments"]["fabrikam"] = {"url": "https://fabrikam.invalid"}
        configuration["callers"]["invoice-loader"]["grants"].append(
            {"environment": "fabrikam", "application": WITH_SECRET}
        )

    patient.configure(change)
    with pytest.raises(NothingChosen, match="contoso, fabrikam: name one with --environment"):
        planned(patient, Wish(WITH_SECRET))
    role, _ = planned(patient, Wish(WITH_SECRET, "contoso"))
    assert role.environment == "contoso"


def test_an_application_without_a_token_says_why(patient: Patient) -> None:
    patient.configure()
    patient.sandbox.entra.faults.add(faults.refused(7000222))
    with pytest.raises(NoWayIn) as caught:
        planned(patient, Wish(WITH_SECRET))
    assert "platform-admin: credentials[0] (client secret): the client secret has expired" in (
        caught.value.detail
    )
    assert "Create a new secret" in caught.value.detail


def test_an_application_that_may_not_look_needs_an_administrator(patient: Patient) -> None:
    patient.configure(without_administrator)
    with as_nobody(patient.sandbox, WITH_SECRET), pytest.raises(NoWayIn) as caught:
        planned(patient, Wish(WITH_SECRET))
    assert "HTTP 403" in caught.value.detail


def test_the_plan_is_shown_and_nothing_is_sent(patient: Patient) -> None:
    patient.configure()
    journal = patient.sandbox.dataverse.journal
    before = journal.total
    done = CliRunner().invoke(
        app,
        ["roles", "plan", "--application", WITH_SECRET],
        env={"BROKER_CONFIG": str(patient.config)},
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert "Token broker: erp-invoices: for erp-invoices in contoso" in done.stdout
    assert "invoices               prvCreateInvoice                Basic   invoice-loader" in (
        done.stdout
    )
    assert "/Microsoft.Dynamics.CRM.AddPrivilegesRole\n" in done.stdout
    asked = list(journal)[before - journal.total :]
    assert {arrival.method for arrival in asked} == {"GET"}

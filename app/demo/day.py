"""The day itself: five services with different rights, and what the broker makes of their calls."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from app.demo.calls import ENVIRONMENT, ODATA, Calls, Ended, decision
from app.demo.stage import cut, rows

if TYPE_CHECKING:
    from collections.abc import Mapping


class Day(Calls):
    """`play()` it; `unexpected` then says what did not come out as it should."""

    async def play(self) -> None:
        """Ends early where a step fails in a way that the next ones cannot go on from."""
        with suppress(Ended):
            await self._steps()

    async def _steps(self) -> None:
        accounts = await self._reads_accounts()
        await self._pages()
        invoices = await self._creates_invoices(accounts)
        await self._updates_one(invoices[0])
        await self._is_refused_what_is_not_its_own()
        await self._is_refused_a_raw_token()
        await self._borrows_a_token()
        await self._reports()
        await self._audits(invoices)

    # ------------------------------------------------------------- the invoice loader

    async def _reads_accounts(self) -> list[dict[str, Any]]:
        with self._scene(
            "Accounts are read through the broker",
            "invoice-loader",
            "The key proves who calls. The broker holds the app registration, asks Entra for a"
            " token, adds it, and passes Dataverse's answer on as it is.",
        ) as scene:
            answer = await self._call(
                scene,
                "invoice-loader",
                "GET",
                f"{self._base}/accounts?$select=name,accountnumber,address1_city"
                "&$filter=statecode eq 0&$orderby=name&$top=3",
            )
            found: list[dict[str, Any]] = answer.json().get("value", [])
            columns = ("name", "accountnumber", "address1_city")
            scene.shows(rows(columns, [tuple(row.get(c) for c in columns) for row in found]))
            scene.expect(len(found) == 3, "three accounts were to come")
            return found

    async def _pages(self) -> None:
        with self._scene(
            "A long result is read page by page",
            "invoice-loader",
            "Every next link leads back to the broker and carries its seal: followed as it was"
            " given it works, changed by one letter it does not.",
        ) as scene:
            url: str | None = f"{self._base}/accounts?$select=name"
            pages, count, last = 0, 0, ""
            while url is not None:
                answer = await self._get("invoice-loader", url)
                page = answer.json()
                if pages == 0:
                    scene.asks("GET", self._shown(url))
                pages, count, last = pages + 1, count + len(page["value"]), url
                url = page.get("@odata.nextLink")
                scene.expect(
                    url is None or url.startswith(self._broker_url),
                    "a next link led around the broker",
                )
            scene.answers(answer.status_code, decision(answer), f"{count} rows in {pages} pages")
            scene.expect(pages > 1, "there was only one page")
            changed = last.replace("broker-seal=", "broker-seal=x")
            await self._call(
                scene, "invoice-loader", "GET", changed, expect=400, shown="(a changed one)"
            )

    async def _creates_invoices(self, accounts: list[dict[str, Any]]) -> list[str]:
        with self._scene(
            "The night's invoices are created, each bound to its account",
            "invoice-loader",
            "Judged are the columns written, the lookup, and the right to append to the account."
            " The intent is on the record before anything is sent.",
        ) as scene:
            run = secrets.token_hex(2).upper()
            made: list[str] = []
            for number, account in enumerate(accounts, 1):
                answer = await self._call(
                    scene,
                    "invoice-loader",
                    "POST",
                    f"{self._base}/invoices",
                    body={
                        "name": f"November, {account['name']}",
                        "invoicenumber": f"INV-{run}-{number}",
                        "customerid_account@odata.bind": f"/accounts({account['accountid']})",
                    },
                    expect=204,
                )
                link = answer.headers.get("OData-EntityId", "")
                scene.expect(link.startswith(self._base), "the new row's link is not the broker's")
                made.append(link)
            return made

    async def _updates_one(self, invoice: str) -> None:
        with self._scene(
            "One of them is corrected",
            "invoice-loader",
            "A PATCH could also create the row, had someone deleted it: If-Match says that it"
            " must be there.",
        ) as scene:
            await self._call(
                scene,
                "invoice-loader",
                "PATCH",
                invoice,
                body={"description": "Second delivery included"},
                headers={"If-Match": "*"},
                expect=204,
            )

    async def _is_refused_what_is_not_its_own(self) -> None:
        with self._scene(
            "What no grant covers is refused",
            "invoice-loader",
            "A table of someone else's, a column that is not granted, in whatever clause it"
            " stands: nothing of it reaches Dataverse.",
        ) as scene:
            for target in (
                "systemusers?$select=fullname",
                "accounts?$select=name,creditlimit",
                "accounts?$select=name&$filter=creditlimit gt 50000",
                "accounts?$select=name&$expand=primarycontactid($select=fullname)",
            ):
                url = f"{self._base}/{target}"
                answer = await self._call(scene, "invoice-loader", "GET", url, expect=403)
                scene.expect(decision(answer) == "refused", "the refusal is not the broker's")

    async def _is_refused_a_raw_token(self) -> None:
        with self._scene(
            "A raw token is refused",
            "invoice-loader",
            "A Dataverse token opens all that the application may do, whatever the table rules"
            " say. So it is a right of its own, off unless it is granted.",
        ) as scene:
            url = f"{self._broker_url}/environments/{ENVIRONMENT}/token"
            answer = await self._call(scene, "invoice-loader", "POST", url, expect=403)
            scene.expect("access_token" not in answer.text, "a token was handed out")

    # -------------------------------------------------------------------- the others

    async def _borrows_a_token(self) -> None:
        with self._scene(
            "An old job borrows a token, and calls Dataverse itself",
            "legacy-job",
            "It cannot be changed yet, so it may hold one, of an application of its own. The"
            " record knows who got which token, by its fingerprint.",
        ) as scene:
            url = f"{self._broker_url}/environments/{ENVIRONMENT}/token"
            answer = await self._ask("legacy-job", "POST", url)
            granted = answer.json()
            scene.asks("POST", self._shown(url))
            lifetime = granted.get("expires_in", 0)
            said = f"{granted.get('token_type')} token for {lifetime // 60} minutes"
            scene.answers(answer.status_code, decision(answer), said)
            scene.expect(answer.status_code == 200, "no token was handed out")
            target = f"{self._dataverse}/WhoAmI"
            token = granted.get("access_token", "")
            direct = await self._client.get(
                target, headers={**ODATA, "Authorization": f"Bearer {token}"}
            )
            scene.asks("GET", target)
            scene.answers(direct.status_code, None, f"UserId {direct.json().get('UserId')}")
            scene.expect(direct.status_code == 200, "Dataverse did not take the token")

    async def _reports(self) -> None:
        with self._scene(
            "A report is read, without a $select",
            "reporting",
            "The grant names the columns that may be read. Where a request names none, the broker"
            " asks for those, and for no other.",
        ) as scene:
            url = f"{self._base}/contacts?$top=2"
            answer = await self._call(scene, "reporting", "GET", url)
            found = answer.json().get("value", [])
            columns = ("fullname", "jobtitle", "emailaddress1")
            scene.shows(rows(columns, [tuple(row.get(c) for c in columns) for row in found]))
            scene.expect(
                len(found) == 2 and "governmentid" not in found[0], "other columns came along"
            )
            await self._call(
                scene,
                "reporting",
                "DELETE",
                f"{self._base}/contacts({found[0]['contactid']})",
                expect=403,
            )

    async def _audits(self, invoices: list[str]) -> None:
        with self._scene(
            "Who touched invoices today?",
            "auditor",
            "Table, row, operation, columns, as which application, allowed or not. Never a value:"
            " the filter is there by name only.",
        ) as scene:
            began = self._began.strftime("%Y-%m-%dT%H:%M:%SZ")
            url = f"{self._broker_url}/audit/records?table=invoices&from={began}"
            answer = await self._call(scene, "auditor", "GET", url)
            records = answer.json().get("records", [])
            scene.shows(
                rows(
                    ("time", "caller", "as", "what", "decision", "status"),
                    [
                        (
                            record["time"][11:19],
                            record.get("caller"),
                            record.get("application"),
                            cut(_accesses(record)),
                            record["decision"],
                            record.get("status"),
                        )
                        for record in records
                    ],
                )
            )
            writes = [r for r in records if r.get("method") in {"POST", "PATCH"}]
            scene.expect(len(writes) == len(invoices) + 1, "the record lacks a write")
            await self._call(scene, "invoice-loader", "GET", url, expect=403)


def _accesses(record: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{access['operation']} {access['table']}" for access in record.get("accesses", ())
    )

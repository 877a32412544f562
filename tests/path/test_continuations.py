"""The second page and those after it: sealed, judged again, and sent as they were."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest

from tests.path.reaching import Reachable, until
from tests.path.staging import staging
from tests.path.stand_ins import JSON, ROW_ID, Arrived, says

if TYPE_CHECKING:
    from pathlib import Path

    from app.sandbox.run import Sandbox
    from tests.path.raw_http import RawAnswer
    from tests.path.running import RunningBroker
    from tests.path.staging import Configuration, Staged
    from tests.path.stand_ins import StandInHost

ROOT = "/environments/prod/api/data/v9.2"
COOKIE = quote('<cookie pagenumber="2" pagingcookie="%3ccookie%20page%3d%221%22%3e" />')


def target_of(link: str) -> str:
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}"


def follow(broker: Reachable, link: str, caller: str, **more: Any) -> RawAnswer:
    assert link.startswith(broker.url)
    return broker.ask("GET", target_of(link), caller=caller, **more)


def next_link(staged: Staged, asked: str, *, caller: str = "reporting", **more: Any) -> str:
    """What the broker makes of a nextLink that repeats what was sent to Dataverse."""

    def answer(arrived: Arrived) -> bytes:
        joint = "&" if "?" in arrived.target else "?"
        link = f"{staged.prod.url}{arrived.target}{joint}$skiptoken={COOKIE}"
        return says(200, {"value": [{"name": "Contoso"}], "@odata.nextLink": link})

    staged.prod.answer = answer
    body = staged.broker.ask("GET", f"{ROOT}/{asked}", caller=caller, **more).json()
    link: str = body["@odata.nextLink"]
    return link


# ------------------------------------------------------------------- the daily use


def test_every_row_comes_once_over_all_pages(sandbox: Sandbox, sandboxed: RunningBroker) -> None:
    target = "/environments/contoso/api/data/v9.2/accounts?$select=accountid&$orderby=name"
    prefer = {"Prefer": "odata.maxpagesize=7"}
    seen: list[str] = []
    answer = sandboxed.ask("GET", target, caller="invoice-loader", headers=prefer)
    pages = 0
    while True:
        page = answer.json()
        seen += [row["accountid"] for row in page["value"]]
        pages += 1
        link = page.get("@odata.nextLink")
        if link is None:
            break
        assert "broker-seal=" in link
        answer = follow(sandboxed, link, "invoice-loader", headers=prefer)
        assert answer.status == 200, answer.text
    everything = sandboxed.ask(
        "GET",
        "/environments/contoso/api/data/v9.2/accounts/$count",
        caller="invoice-loader",
    )
    assert pages > 2
    assert len(seen) == len(set(seen)) == int(everything.text.lstrip("\ufeff"))
    assert sandbox.environment_url not in json.dumps(page)


def test_a_continuation_is_sent_as_it_was(staged: Staged) -> None:
    link = next_link(staged, "accounts?$filter=name eq 'A B'&$orderby=name".replace(" ", "%20"))
    first = staged.prod.arrived[-1]
    staged.prod.clear()
    assert follow(staged.broker, link, "reporting").status == 200
    [second] = staged.prod.arrived
    options = parse_qsl(urlsplit(second.target).query)
    assert options == [
        *parse_qsl(urlsplit(first.target).query),
        ("$skiptoken", unquote(COOKIE)),
    ]
    # A page is as long as the grant lets it be, the second one too.
    assert first.header("prefer") == second.header("prefer") == "odata.maxpagesize=500"


def test_a_client_may_encode_a_continuation_anew(staged: Staged) -> None:
    link = next_link(staged, "accounts?$select=name&$filter=name%20eq%20'A%20B'")
    path, _, query = target_of(link).partition("?")
    pairs = parse_qsl(query)
    for written in (
        "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in pairs),
        "&".join(f"{n}={quote(v, safe='')}".replace("%20", "+") for n, v in pairs),
        "&".join(f"{n}={quote(v, safe=chr(34) + '$()<>=/')}" for n, v in pairs).replace('"', "%22"),
        "&".join(f"{n}={quote(v, safe='')}" for n, v in reversed(pairs)),
    ):
        answer = staged.broker.ask(
            "GET", f"{path}?{written.replace('<', '%3c').replace('>', '%3E')}", caller="reporting"
        )
        assert answer.status == 200, answer.text


# --------------------------------------------------------------------- what is refused


def altered(link: str) -> dict[str, str]:
    """The link with one thing changed each."""
    target = target_of(link)
    path, _, query = target.partition("?")
    pairs = dict(parse_qsl(query))

    def written(**changes: str | None) -> str:
        changed = {**pairs, **{n.replace("_", "$", 1): v for n, v in changes.items()}}
        kept = {n: v for n, v in changed.items() if v is not None}
        return path + "?" + "&".join(f"{n}={quote(v, safe='$')}" for n, v in kept.items())

    seal = pairs["broker-seal"]
    return {
        "no seal": target.replace(f"broker-seal={quote(seal)}", "").rstrip("&"),
        "another seal": written().replace(seal[-6:], "AAAAAA"),
        "an empty seal": written().replace(seal, ""),
        "the seal twice": f"{target}&broker-seal={seal}",
        "another token": written(_skiptoken="<cookie pagenumber='3' />"),
        "no token": written(_skiptoken=None),
        "another column": written(_select="name,telephone1"),
        "another order": written(_orderby="name"),
        "another table": target.replace("/accounts?", "/contacts?"),
        "a row": target.replace("/accounts?", f"/accounts({ROW_ID})?"),
        "an alias": f"{target}&@p=1",
        "a delta token": f"{target}&$deltatoken=x",
    }


@pytest.mark.parametrize("change", sorted(altered("http://x/accounts?$select=a&broker-seal=ab.cd")))
def test_a_continuation_with_anything_changed_is_refused(staged: Staged, change: str) -> None:
    link = next_link(staged, "accounts?$select=name")
    staged.prod.clear()
    answer = staged.broker.ask("GET", altered(link)[change], caller="reporting")
    assert answer.status == 400, answer.text
    assert staged.prod.arrived == []


def test_another_callers_continuation_is_refused(staged: Staged) -> None:
    link = next_link(staged, "accounts?$select=name")
    staged.prod.clear()
    for caller in ("crm-writer", "analyst", "support-desk"):
        answer = follow(staged.broker, link, caller)
        assert answer.json()["type"] == "/problems/unsealed-continuation"
    elsewhere = target_of(link).replace("/prod/", "/dev/")
    assert staged.broker.ask("GET", elsewhere, caller="case-desk").status == 400
    assert staged.prod.arrived == staged.environments["dev"].arrived == []
    assert follow(staged.broker, link, "reporting").status == 200


def test_a_continuation_stays_with_the_grant_that_began_it(
    host: StandInHost, tmp_path: Path
) -> None:
    def granted_twice(configuration: Configuration) -> None:
        grants = configuration["callers"]["reporting"]["grants"]
        second = {**copy.deepcopy(grants[0]), "application": "crm-app-dev"}
        second["tables"] = {"accounts": {"operations": ["read"], "columns": ["accountid", "name"]}}
        grants.append(second)

    with staging(host, tmp_path, change=granted_twice) as staged:
        as_second = {"Broker-Application": "crm-app-dev"}
        for headers in ({}, as_second):
            link = next_link(staged, "accounts?$select=name", headers=headers)
            began = staged.prod.arrived[-1].header("authorization")
            assert follow(staged.broker, link, "reporting").status == 200
            assert staged.prod.arrived[-1].header("authorization") == began
        other = follow(staged.broker, link, "reporting", headers={"Broker-Application": "crm-app"})
        assert other.status == 400


def test_a_caller_cannot_seal_by_having_dataverse_echo_a_link(staged: Staged) -> None:
    """Data may hold what looks like a link; only annotations are ones."""
    forged = f"{staged.prod.url}/api/data/v9.2/accounts?$select=creditlimit&$skiptoken=1"
    inner = json.dumps({"@odata.nextLink": forged})
    staged.prod.answer = lambda _: says(
        200, {"value": [{"name": inner, "description": forged}], "x": {"@odata.nextLink": 5}}
    )
    answer = staged.broker.ask("GET", f"{ROOT}/accounts?$select=name", caller="reporting")
    assert answer.json()["value"] == [{"name": inner, "description": forged}]
    assert "broker-seal" not in answer.text


def test_what_dataverse_adds_to_a_link_is_not_sealed(staged: Staged) -> None:
    for addition in ("&$filter=creditlimit%20gt%205", "&$expand=primarycontactid", "&$top=5"):

        def answers(arrived: Arrived, addition: str = addition) -> bytes:
            link = f"{staged.prod.url}{arrived.target}{addition}&$skiptoken=1"
            return says(200, {"value": [], "@odata.nextLink": link})

        staged.prod.answer = answers
        answer = staged.broker.ask("GET", f"{ROOT}/accounts?$select=name", caller="reporting")
        assert answer.json() == {"value": []}


# -------------------------------------------------------------- policies that have changed


def test_a_continuation_is_judged_by_todays_policy(watched: Staged) -> None:
    link = next_link(watched, "accounts?$select=name,telephone1")
    assert follow(watched.broker, link, "reporting").status == 200
    narrower = copy.deepcopy(watched.configuration)
    columns = narrower["callers"]["reporting"]["grants"][0]["tables"]["accounts"]["columns"]
    columns.remove("telephone1")
    watched.write(narrower)
    refused = until(
        lambda: a if (a := follow(watched.broker, link, "reporting")).status != 200 else None
    )
    assert (refused.status, refused.header("broker-decision")) == (403, "refused")
    assert "telephone1" in refused.json()["detail"]


# ---------------------------------------------------------------------- other places


def test_an_expanded_collection_goes_on_with_its_own_options(staged: Staged) -> None:
    links = {}

    def answer(arrived: Arrived) -> bytes:
        del arrived
        base = f"{staged.prod.url}/api/data/v9.2/accounts({ROW_ID})/contact_customer_accounts"
        for options in ("$select=fullname", "$select=fullname,governmentid"):
            links[options] = f"{base}?{options}&$skiptoken=1"
        first, second = links.values()
        return says(
            200,
            {
                "value": [
                    {"contact_customer_accounts@odata.nextLink": first, "n": 1},
                    {"contact_customer_accounts@odata.nextLink": second, "n": 2},
                ]
            },
        )

    staged.prod.answer = answer
    body = staged.broker.ask(
        "GET",
        f"{ROOT}/accounts?$select=name&$expand=contact_customer_accounts($select=fullname)",
        caller="reporting",
    ).json()
    sealed, refused = body["value"]
    assert refused == {"n": 2}
    link = sealed["contact_customer_accounts@odata.nextLink"]
    staged.prod.clear()
    assert follow(staged.broker, link, "reporting").status == 200
    assert staged.prod.arrived[-1].target.startswith(
        f"/api/data/v9.2/accounts({ROW_ID})/contact_customer_accounts?"
    )


def test_changes_are_followed_by_their_sealed_link(staged: Staged) -> None:
    staged.prod.answer = lambda arrived: says(
        200,
        {
            "value": [],
            "@odata.deltaLink": f"{staged.prod.url}{arrived.target}&$deltatoken=919042%2108",
        },
    )
    tracking = {"Prefer": "odata.track-changes"}
    body = staged.broker.ask(
        "GET", f"{ROOT}/accounts?$select=name", caller="reporting", headers=tracking
    ).json()
    assert follow(staged.broker, body["@odata.deltaLink"], "reporting").status == 200
    assert staged.prod.arrived[-1].decoded.endswith("$deltatoken=919042!08")
    invented = f"{ROOT}/accounts?$select=name&$deltatoken=919042%2108"
    assert staged.broker.ask("GET", invented, caller="reporting").status == 400


def test_a_chunked_upload_goes_on_at_its_sealed_location(staged: Staged) -> None:
    column = f"accounts({ROW_ID})/new_contractfile"

    def answer(arrived: Arrived) -> bytes:
        if "sessiontoken" in arrived.target:
            return says(206 if len(arrived.body) == 4 else 204)
        location = f"{staged.prod.url}/api/data/v9.2/{column}?sessiontoken=abc%2Bdef"
        return says(200, b"", {"Location": location, "x-ms-chunk-size": "4194304"})

    staged.prod.answer = answer
    begin = staged.broker.ask(
        "PATCH",
        f"{ROOT}/{column}",
        caller="file-writer",
        headers={"x-ms-transfer-mode": "chunked", "x-ms-file-name": "a.bin"},
        body=b"",
    )
    assert begin.header("x-ms-chunk-size") == "4194304", begin.text
    location = begin.header("location")
    assert location
    assert location.startswith(f"{staged.broker.url}{ROOT}/{column}?sessiontoken=abc%2Bdef&")
    chunk = {"Content-Type": "application/octet-stream", "x-ms-file-name": "a.bin"}
    for part, at, status in ((b"abcd", "0-3", 206), (b"ef", "4-5", 204)):
        sent = staged.broker.ask(
            "PATCH",
            target_of(location),
            caller="file-writer",
            headers={**chunk, "Content-Range": f"bytes {at}/6"},
            body=part,
        )
        assert sent.status == status, sent.text
        arrived = staged.prod.arrived[-1]
        assert arrived.target.endswith("?sessiontoken=abc%2Bdef")
        assert arrived.header("content-range") == f"bytes {at}/6"
        assert arrived.body == part
    staged.prod.clear()
    for target, caller in (
        (target_of(location).replace("abc", "xyz"), "file-writer"),
        (target_of(location).partition("&")[0], "file-writer"),
        (target_of(location), "integrator"),
        (target_of(location).replace(ROW_ID, ROW_ID[:-1] + "2"), "file-writer"),
    ):
        refused = staged.broker.ask("PATCH", target, caller=caller, headers=chunk, body=b"x")
        assert refused.status == 400, refused.text
    assert staged.prod.arrived == []


def test_a_page_inside_a_batch_goes_on_under_its_own_seal(staged: Staged) -> None:
    def answer(arrived: Arrived) -> bytes:
        if not arrived.target.endswith("$batch"):
            return says(200, {"value": []})
        parts = ""
        for options in ("accounts?$select=name", "contacts?$select=fullname"):
            page = {
                "value": [],
                "@odata.nextLink": f"{staged.prod.url}/api/data/v9.2/{options}&$skiptoken=1",
            }
            parts += (
                "--batchresponse_1\r\nContent-Type: application/http\r\n\r\n"
                f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\n\r\n{json.dumps(page)}\r\n"
            )
        kind = {"Content-Type": "multipart/mixed; boundary=batchresponse_1"}
        return says(200, parts + "--batchresponse_1--\r\n", kind)

    staged.prod.answer = answer
    inner = "".join(
        f"--b\r\nContent-Type: application/http\r\n\r\nGET {target} HTTP/1.1\r\n\r\n\r\n"
        for target in ("accounts?$select=name", "contacts?$select=fullname")
    )
    answered = staged.broker.ask(
        "POST",
        f"{ROOT}/$batch",
        caller="reporting",
        headers={"Content-Type": "multipart/mixed; boundary=b"},
        body=inner + "--b--\r\n",
    )
    pages = [json.loads(line) for line in answered.text.splitlines() if line.startswith("{")]
    links = [page["@odata.nextLink"] for page in pages]
    assert len(links) == 2
    for link in links:
        assert follow(staged.broker, link, "reporting").status == 200
    swapped = links[0].replace("/accounts?", "/contacts?").replace("=name", "=fullname")
    assert follow(staged.broker, swapped, "reporting").status == 400

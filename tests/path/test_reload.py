"""A configuration that changes under a running broker: swapped whole, or not at all."""

from __future__ import annotations

import copy
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.path.reaching import until
from tests.path.staging import CASES
from tests.path.stand_ins import JSON, Arrived, ordinary, says

if TYPE_CHECKING:
    from tests.path.raw_http import RawAnswer
    from tests.path.staging import Configuration, Staged

ROOT = "/environments/prod/api/data/v9.2"
READ = f"{ROOT}/accounts?$select=name"


def changed(watched: Staged) -> Configuration:
    return copy.deepcopy(watched.configuration)


def reads(watched: Staged, caller: str = "reporting") -> RawAnswer:
    return watched.broker.ask("GET", READ, caller=caller)


def readiness(watched: Staged) -> tuple[int, str, dict[str, Any]]:
    answer = watched.broker.ask("GET", "/readyz")
    told = answer.json()
    return answer.status, told["status"], {c["name"]: c for c in told["checks"]}


def test_a_configuration_that_does_not_load_changes_nothing(watched: Staged) -> None:
    good = watched.file.read_text()
    for bad in ("callers: [", "nonsense: true\n", good.replace("application: crm-app\n", "x: y\n")):
        watched.file.write_text(bad)
        until(lambda: readiness(watched)[1] == "degraded" or None)
        status, _, checks = readiness(watched)
        assert status == 200
        assert checks["configuration"]["degraded"]
        assert reads(watched).status == 200
        assert "broker_configuration_degraded 1" in watched.broker.ask("GET", "/metrics").text
        watched.file.write_text(good)
        until(lambda: readiness(watched)[1] == "ready" or None)


@pytest.mark.parametrize(
    "breaks",
    [
        lambda c: c["callers"]["reporting"]["grants"][0]["tables"]["accounts"]["columns"].append(
            "no_such_column"
        ),
        lambda c: c["environments"]["prod"].update(schema={"file": "nowhere.xml"}),
        lambda c: c["environments"]["prod"].update(ca_file="nowhere.pem"),
        lambda c: c["applications"]["crm-app"]["credentials"][0].update(
            client_secret={"file": "/nowhere"}
        ),
        lambda c: c["callers"]["project-portal"]["grants"][0]["tables"]["new_projects"].update(
            row_filter="new_status eq"
        ),
    ],
    ids=["column", "schema", "ca", "secret", "filter"],
)
def test_what_only_shows_when_it_is_used_is_found_before(watched: Staged, breaks: Any) -> None:
    broken = changed(watched)
    breaks(broken)
    del broken["callers"]["crm-writer"]
    watched.write(broken)
    until(lambda: readiness(watched)[1] == "degraded" or None)
    assert reads(watched).status == 200
    assert reads(watched, "crm-writer").status == 200


def test_a_caller_who_is_taken_out_is_a_stranger_at_once(watched: Staged) -> None:
    assert reads(watched).status == 200
    without = changed(watched)
    del without["callers"]["reporting"]
    watched.write(without)
    stranger = until(lambda: a if (a := reads(watched)).status != 200 else None)
    assert stranger.status == 401
    assert reads(watched, "crm-writer").status == 200


def test_a_caller_who_is_disabled_is_a_stranger_until_he_is_not(watched: Staged) -> None:
    disabled = changed(watched)
    disabled["callers"]["reporting"]["disabled"] = True
    watched.write(disabled)
    until(lambda: reads(watched).status == 401 or None)
    watched.write(watched.configuration)
    until(lambda: reads(watched).status == 200 or None)


def test_a_decision_that_was_remembered_is_made_anew(watched: Staged) -> None:
    for _ in range(3):
        assert reads(watched).status == 200
    narrower = changed(watched)
    table = narrower["callers"]["reporting"]["grants"][0]["tables"]["accounts"]
    table["columns"].remove("name")
    watched.write(narrower)
    refused = until(lambda: a if (a := reads(watched)).status != 200 else None)
    assert refused.json()["detail"] == "columns not granted on accounts: name"


def test_an_environment_may_move(watched: Staged) -> None:
    assert reads(watched).status == 200
    moved = changed(watched)
    moved["environments"]["prod"]["url"] = moved["environments"]["dev"]["url"]
    del moved["environments"]["dev"]
    for caller in ("project-portal", "case-desk"):
        del moved["callers"][caller]
    watched.write(moved)
    dev = watched.environments["dev"]
    until(lambda: (reads(watched).status and dev.arrived) or None)
    watched.prod.clear()
    assert reads(watched).status == 200
    assert watched.prod.arrived == []
    # Its token is another one too.
    asked = [a.body.decode() for a in watched.entra.arrived if a.method == "POST"]
    assert f"127.0.0.1%3A{dev.port}%2F.default" in asked[-1]


def test_other_versions_may_be_served(watched: Staged) -> None:
    older = "/environments/prod/api/data/v9.1/accounts?$select=name"
    assert watched.broker.ask("GET", older, caller="reporting").status == 404
    wider = changed(watched)
    wider["environments"]["prod"]["api_versions"] = ["v9.1", "v9.2"]
    watched.write(wider)
    until(lambda: watched.broker.ask("GET", older, caller="reporting").status == 200 or None)
    assert watched.prod.arrived[-1].target.startswith("/api/data/v9.1/accounts?")
    assert reads(watched).status == 200
    link = until(lambda: _next_of(watched, older))
    assert "/api/data/v9.1/accounts?" in link


def _next_of(watched: Staged, target: str) -> str | None:
    def answer(arrived: Arrived) -> bytes:
        link = f"{watched.prod.url}{arrived.target}&$skiptoken=1"
        return says(200, {"value": [], "@odata.nextLink": link}, {"Content-Type": JSON})

    watched.prod.answer = answer
    found: str | None = (
        watched.broker.ask("GET", target, caller="reporting").json().get("@odata.nextLink")
    )
    return found


def test_no_request_fails_while_the_configuration_is_swapped(watched: Staged) -> None:
    failed: list[tuple[int, str]] = []
    done = threading.Event()

    def asks() -> None:
        while not done.is_set():
            answer = reads(watched)
            if answer.status != 200:
                failed.append((answer.status, answer.text))

    threads = [threading.Thread(target=asks) for _ in range(4)]
    for thread in threads:
        thread.start()
    for page_size in (400, 300, 200):
        other = changed(watched)
        other["callers"]["reporting"]["grants"][0]["limits"]["page_size"] = page_size
        watched.write(other)
        until(partial(_asks_for, watched, page_size))
    done.set()
    for thread in threads:
        thread.join()
    assert failed == []


def _asks_for(watched: Staged, page_size: int) -> bool | None:
    arrived = list(watched.prod.arrived)
    wanted = f"odata.maxpagesize={page_size}"
    return (bool(arrived) and arrived[-1].header("prefer") == wanted) or None


def test_an_environment_gets_a_live_schema_and_a_pinned_one_back(watched: Staged) -> None:
    document = (CASES / "metadata.xml").read_bytes()
    there = threading.Event()

    def answer(arrived: Arrived) -> bytes:
        if arrived.target.endswith("$metadata"):
            return says(200, document if there.is_set() else b"<", {"Content-Type": "text/xml"})
        if "/EntityDefinitions?" in arrived.target:
            return says(200, {"value": []})
        return ordinary(arrived)

    watched.prod.answer = answer
    live = changed(watched)
    live["environments"]["prod"]["schema"] = "live"
    watched.write(live)
    waiting = until(lambda: a if (a := reads(watched)).status != 200 else None)
    assert (waiting.status, waiting.json()["type"]) == (503, "/problems/schema-unavailable")
    assert waiting.header("retry-after")
    # What needs no schema goes on.
    assert watched.broker.ask("GET", "/callers/me", caller="reporting").status == 200
    watched.write(watched.configuration)
    until(lambda: reads(watched).status == 200 or None)
    there.set()
    watched.write(live)
    until(lambda: reads(watched).status == 200 or None)

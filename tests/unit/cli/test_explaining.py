"""`policy explain` says what the server's own explanation would, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import app

FOLDER = Path(__file__).parents[2] / "policy_cases"
CONFIG = ("--config", str(FOLDER / "broker.yaml"))


def run(*arguments: str, caller: str = "reporting") -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["policy", "explain", "--caller", caller, *CONFIG, *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def explained(*arguments: str, caller: str = "reporting") -> dict[str, object]:
    code, out, err = run(*arguments, "--json", caller=caller)
    assert not err
    answer: dict[str, object] = json.loads(out)
    assert code == (0 if answer["decision"] == "allowed" else 1)
    return answer


@pytest.mark.parametrize(
    "url",
    [
        "accounts?$select=name",
        "/api/data/v9.2/accounts?$select=name",
        "/environments/prod/api/data/v9.2/accounts?$select=name",
        "http://127.0.0.1:8080/environments/prod/api/data/v9.2/accounts?$select=name",
        "https://contoso.crm.dynamics.com/api/data/v9.2/accounts?$select=name",
    ],
    ids=["relative", "the default", "with its environment", "the broker's", "Dataverse's"],
)
def test_an_address_may_be_written_as_people_have_it(url: str) -> None:
    answer = explained("GET", url)
    assert answer["decision"] == "allowed"
    assert answer["would_send"] == {
        "method": "GET",
        "target": "/api/data/v9.2/accounts?$select=name",
        "headers": {
            "Accept": "application/json",
            "OData-Version": "4.0",
            "OData-MaxVersion": "4.0",
            "Prefer": "odata.maxpagesize=500",
        },
        "body": None,
    }


def test_a_refusal_shows_what_is_missing() -> None:
    code, out, _ = run("GET", "accounts?$select=name,creditlimit")
    assert code == 1
    assert "refused for reporting, as crm-app in prod" in out
    assert "columns not granted on accounts: creditlimit (not-granted)" in out
    assert any(
        line.split() == ["missing", "read", "accounts", "creditlimit"] for line in out.splitlines()
    )


def test_a_write_is_explained_with_its_body(tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"name":"x"}')
    for body in ('{"name":"x"}', f"@{file}"):
        code, out, _ = run("post", "invoices", "--body", body, caller="billing-sync")
        assert code == 0, out
        assert any(line.split() == ["✓", "create", "invoices", "name"] for line in out.splitlines())
        assert '{"name":"x"}' in out


def test_headers_count() -> None:
    bare = explained("PATCH", "contacts(accountid=1)", caller="crm-writer")
    assert bare["decision"] == "unreadable"
    acting = explained("GET", "contacts", "-H", "CallerObjectId: 0", caller="crm-writer")
    assert acting["code"] == "impersonation-refused"


def test_an_action_that_reaches_further_is_told(tmp_path: Path) -> None:
    del tmp_path
    answer = explained("POST", "Merge", "--body", "{}", caller="analyst")
    assert answer["decision"] == "refused"
    assert "Merge changes and deactivates rows" in str(answer["warnings"])
    assert explained("GET", "WhoAmI", caller="analyst")["warnings"] == []


@pytest.mark.parametrize(
    ("arguments", "caller", "says"),
    [
        (("GET", "accounts"), "report", "no such caller; did you mean 'reporting'?"),
        (("GET", "https://elsewhere.example/x"), "reporting", "neither the broker's nor"),
        (("GET", "accounts", "-H", "nonsense"), "reporting", "must be 'Name: value'"),
        (("GET", "accounts", "--body", "@/no/such"), "reporting", "/no/such: No such file"),
    ],
    ids=["caller", "address", "header", "file"],
)
def test_what_cannot_be_explained_is_an_error(
    arguments: tuple[str, ...], caller: str, says: str
) -> None:
    code, out, err = run(*arguments, caller=caller)
    assert (code, out) == (3, "")
    assert says in err

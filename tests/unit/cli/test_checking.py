from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.main import app

CASES = Path(__file__).parents[2] / "policy_cases"
GOOD = (CASES / "broker.yaml").read_text(encoding="utf-8")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "metadata.xml").symlink_to(CASES / "metadata.xml")
    file = tmp_path / "broker.yaml"
    file.write_text(GOOD)
    return file


def change(config: Path, old: str, new: str) -> int:
    """Returns the line that was changed."""
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def run(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["check", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_usable_configuration_tells_what_each_caller_may(config: Path) -> None:
    code, out, _ = run(config, "--offline")
    assert code == 0
    assert "reporting\n" in out
    assert "  in prod (default), https://contoso.crm.dynamics.com, as crm-app" in out
    assert "accounts: read" in out
    assert "warning  trial: in prod enforce is false" in out
    assert out.rstrip().endswith("warnings")


def test_warnings_fail_only_when_that_is_wanted(config: Path) -> None:
    assert run(config, "--offline")[0] == 0
    assert run(config, "--offline", "--strict")[0] == 1


def test_secrets_are_looked_for_unless_offline(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(config)
    assert code == 1
    assert "the environment variable CRM_APP_SECRET is not set" in out
    monkeypatch.setenv("CRM_APP_SECRET", "s")
    monkeypatch.setenv("CRM_APP_DEV_SECRET", "s")
    assert run(config)[0] == 0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("functions: [WhoAmI]", "function: [WhoAmI]", "did you mean 'functions'?"),
        ("creditlimit", "creditlimt", "no column creditlimt; did you mean creditlimit?"),
        (
            "          accounts:\n",
            "          account:\n",
            "no table account; did you mean accounts?",
        ),
        ('row_filter: "new_status eq 1"', 'row_filter: "new_status"', "row_filter"),
        ("application: crm-app\n", "application: crm\n", "did you mean 'crm-app'"),
    ],
    ids=["key", "column", "table", "row filter", "application"],
)
def test_a_problem_has_its_line_and_the_nearest_name(
    config: Path, old: str, new: str, says: str
) -> None:
    line = change(config, old, new)
    code, out, _ = run(config, "--offline")
    assert code == 1
    problems = [text for text in out.splitlines() if text.startswith("problem")]
    assert any(f"broker.yaml:{line}: " in text and says in text for text in problems), out
    assert "not usable" in out


def test_a_schema_that_cannot_be_read_is_a_problem_of_its_environment(config: Path) -> None:
    (config.parent / "metadata.xml").unlink()
    (config.parent / "metadata.xml").write_text("no schema")
    code, out, _ = run(config, "--offline")
    assert code == 1
    assert "environments.prod.schema" in out


def test_a_live_schema_is_compared_where_a_file_stands_in(config: Path) -> None:
    for _ in range(2):
        change(config, "schema: {file: metadata.xml}", "schema: live")
    change(config, "creditlimit", "creditlimt")
    code, out, _ = run(config, "--offline")
    assert code == 0
    assert "prod: its schema is live; --schema prod=FILE compares names with a saved one" in out
    for option in (f"prod={CASES / 'metadata.xml'}", str(CASES / "metadata.xml")):
        code, out, _ = run(config, "--offline", "--schema", option)
        assert code == 1
        assert "no column creditlimt" in out
    code, out, _ = run(config, "--offline", "--schema", f"prd={CASES / 'metadata.xml'}")
    assert code == 1
    assert "no such environment; did you mean 'prod'?" in out


def test_programs_get_problems_with_their_places(config: Path) -> None:
    line = change(config, "creditlimit", "creditlimt")
    code, out, _ = run(config, "--offline", "--json")
    assert code == 1
    answer: dict[str, Any] = json.loads(out)
    assert answer["usable"] is False
    [problem] = answer["problems"]
    assert problem["line"] == line
    assert problem["file"] == str(config)


def test_programs_get_rights_and_warnings(config: Path) -> None:
    answer = json.loads(run(config, "--offline", "--json")[1])
    assert answer["usable"] is True
    assert {caller["caller"] for caller in answer["callers"]} >= {"reporting", "trial"}
    assert {"code", "subject", "text"} == answer["warnings"][0].keys()


def test_a_folder_is_checked_whole(config: Path) -> None:
    (config.parent / "more.yaml").write_text("public_url: https://twice.example\n")
    code, out, _ = run(config.parent, "--offline")
    assert code == 1
    assert "defined twice" in out


def test_the_path_is_that_of_the_settings(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_CONFIG", str(config))
    assert run("--offline")[0] == 0


def test_files_are_named_as_seen_from_here(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = change(config, "creditlimit", "creditlimt")
    monkeypatch.chdir(config.parent)
    out = run(config, "--offline")[1]
    assert f"problem  broker.yaml:{line}: " in out
    assert os.sep + "broker.yaml" not in out

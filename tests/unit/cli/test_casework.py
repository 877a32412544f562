"""`policy test` says of each case what the server would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.main import app

FOLDER = Path(__file__).parents[2] / "policy_cases"
CONFIG = str(FOLDER / "broker.yaml")
ALL = [json.loads(line) for line in (FOLDER / "cases.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def _logs_as_before(logs_as_before: None) -> None:
    """`policy test` sets up the logs of its process."""


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["policy", "test", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def written(tmp_path: Path, *cases: dict[str, Any]) -> str:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(json.dumps(case) for case in cases))
    return str(file)


def case(name: str) -> dict[str, Any]:
    return next(dict(each) for each in ALL if each["id"] == name)


def test_the_worked_cases_come_out_as_they_say() -> None:
    code, out, _ = run(str(FOLDER / "cases.jsonl"), "--config", CONFIG)
    assert out.startswith(f"{len(ALL)} of {len(ALL)} cases as they say"), out
    assert code == 0


def test_a_case_that_does_not_shows_both_decisions(tmp_path: Path) -> None:
    file = written(tmp_path, {**case("path-005"), "expect": "allow"}, case("path-004"))
    code, out, _ = run(file, "--config", CONFIG)
    assert code == 1
    assert "✗ path-005" in out
    assert "- expected  allow" in out
    assert "+ got       refuse (403): columns not granted on accounts: accountnumber" in out
    assert "1 of 2 cases as they say" in out


def test_a_case_that_is_sent_otherwise_shows_what_was_sent(tmp_path: Path) -> None:
    file = written(tmp_path, {**case("path-011"), "upstream": {"contains": ["$top"]}})
    code, out, _ = run(file, "--config", CONFIG)
    assert code == 1
    assert "expected" not in out
    assert "sent     GET /api/data/v9.2/accounts/$count" in out
    assert "upstream.contains: '$top' is in no target" in out


def test_programs_get_the_same_as_json(tmp_path: Path) -> None:
    file = written(tmp_path, {**case("path-005"), "expect": "allow"})
    code, out, _ = run(file, "--config", CONFIG, "--json")
    assert code == 1
    answer = json.loads(out)
    assert answer["cases"] == 1
    [failed] = answer["failed"]
    assert failed["id"] == "path-005"
    assert failed["got"] == "refuse"
    assert failed["sent"] == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"caller": "nobody"}, "path-004: no caller nobody is configured"),
        ({"expects": "allow"}, "mine.jsonl:1: Object contains unknown field `expects`"),
    ],
    ids=["unknown caller", "unknown field"],
)
def test_a_case_that_cannot_be_played_is_an_error(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    code, _, err = run(written(tmp_path, {**case("path-004"), **change}), "--config", CONFIG)
    assert code == 3
    assert says in err


def test_a_file_without_cases_proves_nothing(tmp_path: Path) -> None:
    code, _, err = run(written(tmp_path), "--config", CONFIG)
    assert code == 3
    assert "no case in it" in err


def test_a_live_schema_must_be_named(tmp_path: Path) -> None:
    config = tmp_path / "broker.yaml"
    text = (FOLDER / "broker.yaml").read_text()
    config.write_text(text.replace("schema: {file: metadata.xml}", "schema: live"))
    file = written(tmp_path, case("path-004"))
    code, _, err = run(file, "--config", str(config))
    assert code == 3
    assert "--schema prod=FILE" in err
    code, out, _ = run(file, "--config", str(config), "--schema", str(FOLDER / "metadata.xml"))
    assert code == 0, out


def test_a_row_filter_is_looked_up_and_hides_what_it_must(tmp_path: Path) -> None:
    named = [each for each in ALL if each.get("precheck") == "hidden"]
    assert named
    code, out, _ = run(written(tmp_path, *named), "--config", CONFIG)
    assert code == 0, out
    seen = [{**each, "precheck": "visible"} for each in named]
    code, out, _ = run(written(tmp_path, *seen), "--config", CONFIG)
    assert code == 1, out

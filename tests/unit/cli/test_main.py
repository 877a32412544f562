from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
import yaml
from typer.testing import CliRunner

from app.audit.store import StoreFailed
from app.cli.main import app
from app.cli.outcome import CouldNot, ExitCode, answering
from app.sandbox.tls import SandboxIncomplete

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = typer.main.get_command(app)


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def each_command(group: object = COMMANDS, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from each_command(command, (*path, name))
        else:
            yield *path, name


@pytest.mark.parametrize("command", list(each_command()), ids=" ".join)
def test_a_command_has_a_sentence_of_help_and_an_answer_for_programs(
    command: tuple[str, ...],
) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "--json" in out
    assert len(out.splitlines()) > 4


def test_help_loads_nothing_that_the_broker_runs_on() -> None:
    heavy = "fastapi uvicorn pydantic msal cryptography yaml httpx2 sqlite3 structlog rich.markdown"
    program = (
        "import sys\n"
        "sys.argv = ['token-broker', '--help']\n"
        "from app.cli.entry import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        f"print(sorted(set({heavy.split()!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "version", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout).keys() == {"version", "python"}


def test_the_description_is_the_one_in_the_repository() -> None:
    text = (ROOT / "openapi" / "openapi.yaml").read_text(encoding="utf-8")
    assert run("openapi")[1] == text
    assert json.loads(run("openapi", "--json")[1]) == yaml.safe_load(text)


# ---------------------------------------------------------------------------------- errors


def ended(error: BaseException, *, as_json: bool = False) -> int:
    with pytest.raises(SystemExit) as caught, answering(as_json=as_json):
        raise error
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (CouldNot("x", "first\nsecond"), "error: first\nerror: second\n"),
        (StoreFailed("cannot read the audit file"), "error: cannot read the audit file\n"),
        (SandboxIncomplete("install …"), "error: install …\n"),
        (FileNotFoundError(2, "No such file", "a.jsonl"), "error: a.jsonl: No such file\n"),
    ],
    ids=["its own", "the store's", "an extra", "a file's"],
)
def test_what_went_wrong_is_said_in_a_line(
    error: Exception, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(error) == ExitCode.FAILED
    assert capsys.readouterr() == ("", says)


def test_programs_get_the_error_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    ended(CouldNot("port-taken", "name another"), as_json=True)
    assert json.loads(capsys.readouterr().err) == {"error": "port-taken", "detail": "name another"}


def test_a_mistake_in_the_program_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError), answering(as_json=False):
        _ = 1 / 0


def test_an_interrupted_command_says_so_by_its_code() -> None:
    assert ended(KeyboardInterrupt()) == 130


def test_a_setting_that_cannot_be_read_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BROKER_PORT", "hunter2")
    monkeypatch.setenv("BROKER_WORKERS", "0")
    code, out, err = run("check")
    assert (code, out) == (3, "")
    assert [line.partition(": ")[2].partition(":")[0] for line in err.splitlines()] == [
        "BROKER_PORT",
        "BROKER_WORKERS",
    ]
    assert "hunter2" not in err


@pytest.mark.parametrize(
    "arguments",
    [("chekc",), ("policy", "explain", "GET"), ("sandbox", "--environment", "a=b")],
    ids=["no such command", "too few", "no port"],
)
def test_a_wrong_call_is_told_apart(arguments: tuple[str, ...]) -> None:
    code, _, err = run(*arguments)
    assert code == ExitCode.CALLED_WRONGLY
    assert "Error" in err

"""What the documents list is what the code has, and what they show is run as it stands there."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
import typer
import yaml
from typer.testing import CliRunner

from app.audit.record import RECORD_FIELDS, Outcome
from app.cli.main import app
from app.cli.outcome import ExitCode
from app.config import model
from app.config.grants import Limits, TableRule
from app.policy.case_format import Answering, Case, Reply, Sending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import BaseModel

    Run = Callable[..., "Done"]

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
CASES = ROOT / "tests" / "policy_cases"


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """From a heading to the next one of its level or above."""
    level = heading.partition(" ")[0]
    start = text.index(f"\n{heading}\n") + len(heading) + 2
    end = re.search(rf"^#{{1,{len(level)}}} ", text[start:], re.MULTILINE)
    return text[start : start + end.start()] if end else text[start:]


def first_column(text: str) -> list[str]:
    """The names at the beginning of each row; several may share one."""
    rows = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def blocks(text: str, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def command_lines(text: str) -> list[str]:
    """Those of shell blocks, continued lines joined."""
    joined = "".join(blocks(text, "sh")).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()]


# -------------------------------------------------------------------------------- all pages


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
            assert anchor in anchors, target


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_page_names_no_folder_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(root|home|work|Users)/|(?<![\w.])/tmp/", text)


# ------------------------------------------------------------------------------- log events


def logged() -> dict[str, tuple[set[str], set[str]]]:
    """Levels and fields of each event, by its name."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for path in sorted((ROOT / "app").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
                and node.func.attr in {"debug", "info", "warning", "error", "critical"}
            ):
                continue
            [event] = node.args
            assert isinstance(event, ast.Constant), f"{named(path)}:{node.lineno}: a fixed name"
            assert isinstance(event.value, str)
            levels, fields = found[event.value]
            levels.add(node.func.attr)
            for keyword in node.keywords:
                assert keyword.arg is not None, f"{named(path)}:{node.lineno}: named fields"
                fields.update({"error", "where"} if keyword.arg == "exc_info" else {keyword.arg})
    return found


def test_the_page_lists_every_event_with_its_fields() -> None:
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| (.*?) \| (.*?) \| \S.* \|$", page("docs/events.md"), re.MULTILINE
    )
    documented = {
        name: (set(levels.split(", ")), set(re.findall(r"`([^`]+)`", fields)))
        for name, levels, fields in rows
    }
    assert documented == logged()


# ------------------------------------------------------------------------------- the record


def test_the_page_lists_every_field_and_every_ending() -> None:
    text = section(page("docs/audit.md"), "## What")
    fields, _, endings = text.partition("| outcome |")
    assert tuple(first_column(fields)) == RECORD_FIELDS
    assert tuple(first_column(endings)) == get_args(Outcome)


# ---------------------------------------------------------------------------- configuration


def keys_of(form: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in form.model_fields.items()]


@pytest.mark.parametrize(
    ("heading", "forms"),
    [
        ("## applications", [model.Application]),
        ("## environments", [model.Environment]),
        ("## issuers", [model.Issuer]),
        ("## callers", [model.Caller]),
    ],
)
def test_the_page_lists_every_key(heading: str, forms: list[type[BaseModel]]) -> None:
    text = section(page("docs/configuration.md"), heading).partition("\n### ")[0]
    assert first_column(text) == [key for form in forms for key in keys_of(form)]


def test_the_page_lists_every_section_and_every_form() -> None:
    text = page("docs/configuration.md")
    assert first_column(text.partition("\n## ")[0]) == keys_of(model.Configuration)
    forms = (
        model.CertificateCredential,
        model.ClientSecretCredential,
        model.FederatedTokenCredential,
        model.ManagedIdentityCredential,
        model.KeyVaultSignerCredential,
    )
    assert first_column(section(text, "### A credential")) == [keys_of(form)[0] for form in forms]
    identities = (model.ApiKeyIdentity, model.JwtIdentity, model.CertificateIdentity)
    assert first_column(section(text, "### An identity")) == [keys_of(f)[0] for f in identities]


def test_the_page_lists_what_a_grant_holds() -> None:
    text = section(page("docs/policy.md"), "## Everything else a grant holds")
    grant, _, rest = text.partition("| in `tables` |")
    table, _, limits = rest.partition("| in `limits` |")
    assert first_column(grant) == keys_of(model.Grant)
    assert first_column(table) == keys_of(TableRule)
    assert first_column(limits) == keys_of(Limits)


def test_the_page_lists_what_a_case_holds() -> None:
    text = section(page("docs/policy.md"), "## Cases")
    assert set(first_column(text)) == set(Case.__struct_fields__)
    mentioned = set(re.findall(r"`(\w+)`", text))
    for form in (Sending, Answering, Reply):
        assert set(form.__struct_fields__) <= mentioned


BASE = {
    "public_url": "https://broker.internal.example",
    "applications": {
        "crm-app": {
            "tenant_id": "8b1f7a52-3c6d-4e0f-9a1b-5d2c7e8f9012",
            "client_id": "5c2e9d10-7f3a-4b8c-8d6e-1a2b3c4d5e01",
            "credentials": [{"certificate": {"file": "none.pem"}}],
        }
    },
    "environments": {
        "prod": {
            "url": "https://contoso.crm.dynamics.com",
            "schema": {"file": str(CASES / "metadata.xml")},
        }
    },
}


def configured(folder: Path, *texts: str) -> Path:
    """A configuration of what stands in a page and what the page does not repeat."""
    whole: dict[str, Any] = {**BASE}
    for text in texts:
        for key, value in yaml.safe_load(text).items():
            whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
    file = folder / "broker.yaml"
    file.write_text(yaml.safe_dump(whole, sort_keys=False))
    return file


def test_the_grants_of_the_page_do_what_it_says(tmp_path: Path, run: Run) -> None:
    text = page("docs/policy.md")
    config = configured(tmp_path, *blocks(text, "yaml"))
    cases = tmp_path / "cases.jsonl"
    cases.write_text("".join(blocks(text, "json")))
    assert run("check", str(config), "--offline").returncode == 0
    done = run("policy", "test", str(cases), "--config", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
    callers = yaml.safe_load(config.read_text())["callers"]
    played = {json.loads(line)["caller"] for line in cases.read_text().splitlines()}
    # Every allow has a neighbouring refusal; a raw token has no request to show.
    assert played == callers.keys() - {"legacy-job"}


@pytest.mark.parametrize("name", ["README.md", "docs/configuration.md"])
def test_a_configuration_that_is_shown_can_be_used(tmp_path: Path, run: Run, name: str) -> None:
    for block in blocks(page(name), "yaml"):
        done = run("check", str(configured(tmp_path, block)), "--offline")
        assert done.returncode == 0, done.stdout


# ------------------------------------------------------------------------- the command line


@dataclass(frozen=True, slots=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, logs_as_before: None) -> Run:
    """`token-broker`, in the root of the repository."""
    del logs_as_before

    def command(*arguments: str, cwd: Path = ROOT, **environment: str) -> Done:
        monkeypatch.chdir(cwd)
        done = CliRunner().invoke(app, list(arguments), env=environment)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    return command


def each_command(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from each_command(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(each_command(typer.main.get_command(app)))


def test_the_page_lists_every_command_and_every_exit_code() -> None:
    text = page("docs/cli.md")
    commands, _, codes = text.partition("## Exit codes")
    assert sorted(first_column(commands)) == sorted(COMMANDS)
    assert re.findall(r"^\| (\d+) \|", codes, re.MULTILINE) == [str(int(c)) for c in ExitCode]


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_command_that_is_shown_takes_what_it_is_given(path: Path) -> None:
    for line in command_lines(path.read_text(encoding="utf-8")):
        if not line.startswith("token-broker "):
            continue
        _, *words = shlex.split(line, comments=True)
        name = next(n for n in (" ".join(words[:2]), words[0]) if n in COMMANDS)
        options = {o for p in COMMANDS[name].params for o in (*p.opts, *p.secondary_opts)}
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= options, line


EXAMPLES = [
    line
    for path in PAGES
    for line in command_lines(path.read_text(encoding="utf-8"))
    if line.startswith("token-broker ") and "examples/" in line
]


@pytest.mark.parametrize("line", sorted(set(EXAMPLES)))
def test_the_examples_can_be_used(run: Run, line: str) -> None:
    done = run(*shlex.split(line)[1:])
    # What is explained to a newcomer is a refusal, and a refusal is a no.
    assert done.returncode == (1 if "explain" in line else 0), done.stdout + done.stderr
    assert not done.stderr


def test_the_record_can_be_asked_and_proved_as_the_page_shows(sandbox: Sandbox, run: Run) -> None:
    sandbox.get("invoice-loader", "/environments/contoso/api/data/v9.2/accounts?$top=1")
    settings = {
        "BROKER_AUDIT_URL": f"sqlite:///{sandbox.folder}/.sandbox/audit.db",
        "BROKER_STATE_DIR": f"{sandbox.folder}/.sandbox/broker",
    }
    lines = [each for each in command_lines(page("docs/audit.md")) if " -f " not in each]
    assert len(lines) == 8
    for line in lines:
        command, _, output = line.partition(" > ")
        done = run(*shlex.split(command)[1:], cwd=sandbox.folder, **settings)
        assert done.returncode == 0, line + done.stderr
        if output:
            (sandbox.folder / output).write_text(done.stdout)
    assert "accounts" in run("audit", "report", cwd=sandbox.folder, **settings).stdout


# ------------------------------------------------------------------------------ the sandbox


class Sandbox:
    """`token-broker sandbox` in a folder where the repository's examples are, too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("examples", "tests"):
            (folder / name).symlink_to(ROOT / name)
        self._shim(folder / "bin")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "sandbox", "--json", "--port", "0",
             "--entra-port", "0", "--environment", "contoso"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        guard = threading.Timer(120, self.process.kill)
        guard.daemon = True
        guard.start()
        assert self.process.stdout is not None
        self.told: dict[str, Any] = json.loads(self.process.stdout.readline())

    def _shim(self, folder: Path) -> None:
        folder.mkdir()
        script = folder / "token-broker"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m app.cli "$@"\n')
        script.chmod(0o755)

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        """A line as a page shows it, at the addresses of this sandbox."""
        for shown, url in (
            ("https://127.0.0.1:8443", self.told["broker"]),
            ("https://127.0.0.1:8444", self.told["entra"]),
            ("https://127.0.0.1:8445", self.told["environments"]["contoso"]["dataverse"]),
        ):
            line = line.replace(shown, url)
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "KEY": self.told["keys"]["invoice-loader"],
            "no_proxy": "127.0.0.1",
        }
        return subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def get(self, caller: str, path: str) -> str:
        key = self.told["keys"][caller]
        return self.shell(
            f"curl -sS --globoff --cacert .sandbox/ca.pem -H 'Authorization: Bearer {key}'"
            f" '{self.told['broker']}{path}'"
        ).stdout

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def sandbox(tmp_path: Path, require_tool: Callable[[str], Path]) -> Iterator[Sandbox]:
    require_tool("curl")
    started = Sandbox(tmp_path)
    yield started
    started.stop()


def test_a_newcomer_can_do_the_first_five_things(sandbox: Sandbox) -> None:
    lines = command_lines(section(page("README.md"), "## The first five things to do"))
    assert lines[0] == "token-broker sandbox"
    said = {}
    for line in lines[1:]:
        done = sandbox.shell(line)
        assert done.returncode == (1 if "explain" in line else 0), line + done.stdout + done.stderr
        said[line] = done.stdout
    allowed, refused, tail, report, *_ = said.values()
    assert '"value":[' in allowed
    assert "columns not granted on accounts: creditlimit" in refused
    assert "refused not-granted" in tail
    assert "accounts" in report


def test_the_sandbox_fails_as_its_page_shows(sandbox: Sandbox) -> None:
    lines = command_lines(page("docs/sandbox.md"))
    assert lines[0].startswith("token-broker sandbox ")
    for line in lines[1:]:
        done = sandbox.shell(line)
        assert done.returncode == 0, line + done.stderr
        assert '"error"' not in done.stdout, line

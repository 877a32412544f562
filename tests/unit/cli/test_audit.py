"""`audit …` on a real file, as a journal leaves it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from app.audit.audit import audit_at
from app.audit.keys import CheckpointSigner
from app.audit.record import Identity, Record, RecordIds, TableAccess, timestamp
from app.cli import records as records_module
from app.cli.main import app
from app.path.keyring import new_key, read_keyring
from app.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.audit.audit import Audit

NOW = datetime.now(UTC)
IDS = RecordIds()


@pytest.fixture(autouse=True)
def _quiet(logs_as_before: None) -> None:
    """The journals of these tests run in the process of the commands, which log nothing."""
    del logs_as_before
    configure(level="ERROR", form="console")


def record(
    number: int = 0, *, table: str = "invoices", operation: str = "create", **more: Any
) -> Record:
    moment = NOW - timedelta(hours=number)
    fields: dict[str, Any] = {
        "phase": "outcome",
        "id": IDS.next(moment),
        "time": timestamp(moment),
        "action": "proxy",
        "decision": "allowed",
        "outcome": "completed",
        "caller": "invoice-loader",
        "identity": Identity(kind="api_key", subject="k7"),
        "environment": "contoso",
        "application": "erp-invoices",
        "method": "POST",
        "target": table,
        "accesses": (TableAccess(table=table, operation=operation, columns=("name",)),),
        "status": 204,
    }
    return Record(**{**fields, **more})


KEPT = (
    record(3),
    record(2, operation="update", method="PATCH"),
    record(1, table="contacts", operation="read", caller="reporting", method="GET", status=200),
    record(0, table="systemusers", operation="read", decision="refused", reason="not-granted",
           status=403, application=None, method="GET"),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of a broker that ran here, its record and its signing key."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "signing-key.pem").write_bytes(new_key())
    monkeypatch.setenv("BROKER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("BROKER_AUDIT_URL", f"sqlite:///{tmp_path / 'audit.db'}")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def audit_in(folder: Path) -> Audit:
    keyring = read_keyring((folder / "state" / "signing-key.pem").read_bytes())
    signer = CheckpointSigner(keyring.checkpoints()[0])
    return audit_at(f"sqlite:///{folder / 'audit.db'}", signer=signer, program="test")


@pytest.fixture
def kept(folder: Path) -> Path:
    """The folder, with four requests on record."""

    async def write() -> None:
        audit = audit_in(folder)
        await audit.start()
        for each in KEPT:
            await audit.journal.append(each)
        await audit.aclose()

    asyncio.run(write())
    return folder


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["audit", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def good(*arguments: str) -> str:
    code, out, err = run(*arguments)
    assert code == 0, err
    return out


# --------------------------------------------------------------------------------- query


def asked(*filters: str) -> list[str]:
    """The ids that answer, newest first."""
    return [each["id"] for each in json.loads(good("query", "--json", *filters))["records"]]


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ((), (3, 2, 1, 0)),
        (("--caller", "reporting"), (2,)),
        (("--table", "invoices"), (1, 0)),
        (("--table", "invoices", "--operation", "update"), (1,)),
        (("--decision", "refused"), (3,)),
        (("--status", "204"), (1, 0)),
        (("--from", "90m"), (3, 2)),
        (("--to", "90m"), (1, 0)),
        (("--application", "nobody"), ()),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value[0], str) else "",
)
def test_a_query_answers_by_every_filter(
    filters: tuple[str, ...], numbers: tuple[int, ...]
) -> None:
    assert asked(*filters) == [KEPT[number].id for number in numbers]


@pytest.mark.usefixtures("kept")
def test_a_query_is_read_page_by_page() -> None:
    first = json.loads(good("query", "--json", "--limit", "3"))
    rest = asked("--limit", "3", "--cursor", first["next_cursor"])
    assert [r["id"] for r in first["records"]] + rest == [r.id for r in reversed(KEPT)]


@pytest.mark.usefixtures("kept")
def test_people_see_who_did_what() -> None:
    out = good("query", "--limit", "1")
    assert "invoice-loader" in out
    assert "GET systemusers  [read systemusers]" in out
    assert "refused not-granted" in out
    assert "More with --cursor" in out


@pytest.mark.usefixtures("kept")
def test_a_cursor_of_another_query_is_an_error() -> None:
    cursor = json.loads(good("query", "--json", "--limit", "1"))["next_cursor"]
    code, _, err = run("query", "--caller", "reporting", "--cursor", cursor)
    assert code == 3
    assert "begin again without one" in err


@pytest.mark.usefixtures("kept")
def test_a_moment_that_is_none_is_a_wrong_call() -> None:
    code, _, err = run("query", "--from", "yesterday")
    assert code == 2
    assert "is no moment" in err


# ---------------------------------------------------------------------------------- tail


@pytest.mark.usefixtures("kept")
def test_the_tail_ends_with_the_newest() -> None:
    lines = good("tail", "-n", "2").splitlines()
    assert len(lines) == 2
    assert "reporting" in lines[0]
    assert "systemusers" in lines[1]
    assert [json.loads(line)["id"] for line in good("tail", "--json").splitlines()] == [
        each.id for each in KEPT
    ]


def test_following_shows_what_comes_and_only_that(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = [record(), record(caller="reporting")]
    looks = 0

    def wait() -> bool:
        nonlocal looks
        looks += 1

        async def write() -> None:
            audit = audit_in(kept)
            await audit.start()
            for each in coming:
                await audit.journal.append(each)
            await audit.aclose()

        if looks == 1:
            asyncio.run(write())
        return looks > 1

    monkeypatch.setattr(records_module, "_wait", wait)
    lines = good("tail", "-f", "-n", "1", "--json", "--caller", "invoice-loader").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [KEPT[3].id, coming[0].id]


# -------------------------------------------------------------------------------- report


@pytest.mark.usefixtures("kept")
def test_a_report_counts_by_day_table_and_caller() -> None:
    rows = json.loads(good("report", "--json"))
    found = {(r["table"], r["caller"]): (r["reads"], r["writes"], r["refused"]) for r in rows}
    assert sum(writes for _, writes, _ in found.values()) >= 1
    assert found["contacts", "reporting"] == (1, 0, 0)
    assert found["systemusers", "invoice-loader"] == (0, 0, 1)


@pytest.mark.usefixtures("kept")
def test_a_report_is_a_table_and_a_chart() -> None:
    out = good("report")
    assert "day" in out.splitlines()[0]
    assert "█ reads" in out
    bars = [line for line in out.splitlines() if "  █" in line or "█ 1" in line]
    assert any("contacts" in line for line in bars)
    assert "No request touched a table." in good("report", "--caller", "nobody")


# ------------------------------------------------------------------------ verify, export


@pytest.mark.usefixtures("kept")
def test_a_record_that_was_left_alone_verifies() -> None:
    assert "nothing was removed, altered, reordered or inserted" in good("verify")
    answer = json.loads(good("verify", "--json"))
    assert answer["good"] is True
    assert answer["signatures_checked"] is True
    assert answer["entries"] > len(KEPT)
    assert [chain["closed"] for chain in answer["chains"]] == [True]


def test_an_export_verifies_with_public_keys_elsewhere(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, keys = kept / "export.jsonl", kept / "keys.pem"
    good("export", "-o", str(file))
    keys.write_text(good("keys"))
    monkeypatch.setenv("BROKER_STATE_DIR", str(kept / "elsewhere"))
    elsewhere = ("verify", "--export", str(file))
    assert "hashes were compared, signatures were not" in good(*elsewhere)
    assert "hashes were compared" not in good(*elsewhere, "--key", str(keys))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda lines: lines[:2] + lines[3:], "removed"),
        (lambda lines: [line.replace("reporting", "repotring") for line in lines], "altered"),
    ],
    ids=["a line removed", "a name changed"],
)
def test_an_export_that_was_changed_says_where(
    kept: Path, change: Callable[[list[str]], list[str]], kind: str
) -> None:
    file = kept / "export.jsonl"
    lines = good("export").splitlines(keepends=True)
    file.write_text("".join(change(lines)))
    code, out, _ = run("verify", "--export", str(file))
    assert code == 1
    assert out.startswith(kind)
    assert "of the chain" in out
    assert json.loads(run("verify", "--export", str(file), "--json")[1])["good"] is False


def test_another_brokers_key_does_not_verify(kept: Path) -> None:
    keys = kept / "keys.pem"
    (kept / "state" / "signing-key.pem").rename(kept / "mine.pem")
    (kept / "state" / "signing-key.pem").write_bytes(new_key())
    keys.write_text(good("keys"))
    code, out, _ = run("verify", "--key", str(keys))
    assert code == 1
    assert "unknown_key" in out


@pytest.mark.parametrize("log", [{}, {"event": "audit.checkpoint", "level": "info"}])
def test_a_chain_that_was_cut_off_is_seen_by_an_anchor(kept: Path, log: dict[str, str]) -> None:
    lines = good("export").splitlines(keepends=True)
    anchor, file = kept / "anchor.jsonl", kept / "cut.jsonl"
    checkpoint = json.dumps({**json.loads(lines[-1])["entry"], **log})
    anchor.write_text(f'{{"event": "broker.started"}}\n{checkpoint}\nno JSON\n')
    file.write_text("".join(lines[:-2]))
    assert run("verify", "--export", str(file))[0] == 0
    code, out, _ = run("verify", "--export", str(file), "--anchor", str(anchor))
    assert code == 1
    assert "an anchored checkpoint" in out


@pytest.mark.usefixtures("kept")
def test_csv_is_for_people_and_may_be_filtered() -> None:
    rows = list(csv.DictReader(io.StringIO(good("export", "--format", "csv"))))
    assert [row["id"] for row in rows] == [each.id for each in KEPT]
    some = list(
        csv.DictReader(io.StringIO(good("export", "--format", "csv", "--table", "contacts")))
    )
    assert [row["caller"] for row in some] == ["reporting"]


@pytest.mark.usefixtures("kept")
def test_json_lines_are_whole_or_nothing() -> None:
    code, _, err = run("export", "--table", "contacts")
    assert code == 3
    assert "filter with csv" in err


# -------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("command", ["query", "tail", "report", "verify", "export"])
def test_a_record_that_is_not_there_is_named(folder: Path, command: str) -> None:
    code, _, err = run(command)
    assert code == 3
    assert str(folder / "audit.db") in err
    assert not (folder / "audit.db").exists()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--export", "line 1: not a line of an audit export"),
        ("--key", "holds no PEM public key"),
        ("--anchor", "odd: holds no checkpoint"),
    ],
)
def test_a_file_of_another_kind_is_named(kept: Path, option: str, says: str) -> None:
    odd = kept / "odd"
    odd.write_text("something else\n")
    code, _, err = run("verify", option, str(odd))
    assert code == 3
    assert says in err


def test_without_a_signing_key_there_are_no_keys_to_show(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_STATE_DIR", str(folder / "elsewhere"))
    code, _, err = run("keys")
    assert code == 3
    assert "BROKER_SIGNING_KEY_FILE" in err
    assert not (folder / "elsewhere").exists()


@pytest.mark.usefixtures("folder")
def test_migrating_twice_takes_no_second_step() -> None:
    runner = CliRunner()
    first = runner.invoke(app, ["migrate", "--json"])
    assert json.loads(first.stdout)["steps"] >= 1
    assert "up to date" in runner.invoke(app, ["migrate"]).stdout

"""What an auditor follows: a change into Dataverse's own log, and whoever read the record."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from app.audit import chain
from app.audit.chain import Checkpoint, decode_note
from app.audit.export import json_lines
from app.audit.keys import CheckpointSigner
from app.audit.record import is_record
from app.audit.sqlite_entries import read_entries
from app.cli.main import app
from app.path.keyring import read_keyring
from tests.path.staging import Staged, staging
from tests.path.stand_ins import ROW_ID, says

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.path.stand_ins import StandInHost

ROOT = "/environments/prod/api/data/v9.2"
CONTACT = f"{ROOT}/contacts({ROW_ID})"
OWN_ID = "5f0c1f8e-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, None),
        ({"x-ms-client-request-id": OWN_ID}, OWN_ID),
        ({"x-ms-client-request-id": "two words"}, None),
    ],
    ids=["without one", "with one of its own", "with one that is none"],
)
def test_dataverse_is_told_the_callers_id_or_else_the_one_on_record(
    staged: Staged, headers: dict[str, str], own: str | None
) -> None:
    staged.prod.answer = lambda _: says(204, b"", {"x-ms-service-request-id": "service-1"})
    answer = staged.broker.ask(
        "PATCH", CONTACT, caller="crm-writer", headers=headers, body={"jobtitle": "x"}
    )
    assert answer.status == 204
    [arrived] = staged.prod.arrived
    [record] = [r for r in staged.broker.records_of(answer.header("broker-request-id"))
                if r.phase == "outcome"]  # fmt: skip
    assert arrived.all("x-ms-client-request-id") == [own or record.request_id]
    assert record.upstream_request_id == "service-1"


# ------------------------------------------------------------------ reading the record


def make_auditor(configuration: dict[str, Any]) -> None:
    configuration["callers"]["reporting"]["roles"] = ["auditor", "operator"]


@pytest.fixture(scope="module")
def audited(host: StandInHost, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with staging(host, tmp_path_factory.mktemp("audited"), change=make_auditor) as made:
        yield made


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        (
            "/audit/records?caller=hunter2&table=accounts&from=2026-01-01T00:00:00Z&limit=5",
            "/audit/records?caller=…&table=…&from=…&limit=…",
        ),
        ("/audit/records?hunter2=1", "/audit/records?<unknown>=…"),
        (f"/audit/records/{ROW_ID}", f"/audit/records/{ROW_ID}"),
        ("/audit/records/hunter2", "/audit/records/<unknown>"),
        ("/callers/me", "/callers/me"),
        ("/applications", "/applications"),
        ("/hunter2", "/<unknown>"),
    ],
)
def test_whoever_reads_the_record_is_on_it(audited: Staged, address: str, kept: str) -> None:
    answer = audited.broker.ask("GET", address, caller="reporting")
    [record] = audited.broker.records_of(answer.header("broker-request-id"))
    if record.action == "admin":
        assert (record.target, record.caller, record.status) == (kept, "reporting", answer.status)
    else:  # what is no address of the broker's
        assert (record.target, answer.status) == (None, 404)
    assert "hunter2" not in repr(record)


def test_a_name_of_the_configuration_is_kept(audited: Staged) -> None:
    name = next(iter(audited.configuration["applications"]))
    answer = audited.broker.ask("DELETE", f"/applications/{name}/tokens", caller="reporting")
    [record] = audited.broker.records_of(answer.header("broker-request-id"))
    assert (record.target, record.status) == (f"/applications/{name}/tokens", answer.status)


# ------------------------------------------------------------------ strangers

EXPIRED = "dvb_expired_" + "s" * 43


def with_expired_key(configuration: dict[str, Any]) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    key = {"sha256": hashlib.sha256(EXPIRED.encode()).hexdigest(), "expires": yesterday}
    configuration["callers"]["reporting"]["identities"].append({"api_key": key})


def test_the_record_says_why_nobody_was_recognised_and_the_answer_does_not(
    host: StandInHost, tmp_path: Path
) -> None:
    with staging(host, tmp_path, change=with_expired_key) as made:
        told, answers = [], []
        for key in (EXPIRED, "dvb_unknown_" + "s" * 43, "nonsense", None):
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            answer = made.broker.ask("GET", f"{ROOT}/accounts?$select=name", headers=headers)
            request_id = answer.header("broker-request-id")
            [record] = made.broker.records_of(request_id)
            told.append((record.decision, record.reason, record.caller, record.status))
            answers.append(answer.text.replace(request_id or "", ""))
    assert told == [
        ("refused", "expired-key", "reporting", 401),
        ("refused", "unknown-key", None, 401),
        ("refused", "jwt-issuer-unknown", None, 401),
        ("refused", "no-credential", None, 401),
    ]
    assert len(set(answers)) == 1


# ------------------------------------------------------------------ anchors


def test_a_broker_anchors_its_checkpoints_where_it_is_told(
    host: StandInHost, tmp_path: Path
) -> None:
    file = tmp_path / "anchors.jsonl"
    with staging(host, tmp_path, audit_anchor_file=file) as made:
        made.broker.ask("GET", f"{ROOT}/accounts?$select=name", caller="reporting")
    anchored = [json.loads(line) for line in file.read_bytes().splitlines()]
    entries = [entry for _, entry in read_entries(made.broker.audit_file)]
    kept = [json.loads(e.body) for e in entries if b'"phase":"checkpoint"' in e.body]
    assert anchored == kept
    assert anchored[-1]["final"]
    assert isinstance(decode_note(file.read_bytes().splitlines()[-1]), Checkpoint)


def test_a_tail_that_was_forged_with_the_key_is_found_by_the_anchors(
    host: StandInHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs_as_before: None
) -> None:
    del logs_as_before
    anchors, export = tmp_path / "anchors.jsonl", tmp_path / "forged.jsonl"
    with staging(host, tmp_path, audit_anchor_file=anchors) as made:
        made.broker.ask("GET", f"{ROOT}/accounts?$select=name", caller="reporting")
    entries = [entry for _, entry in read_entries(made.broker.audit_file)]
    kept = next(place for place, entry in enumerate(entries) if is_record(entry.body))
    keyring = read_keyring((tmp_path / "state" / "signing-key.pem").read_bytes())
    *_, before = entries[:kept]
    altered = entries[kept].body.replace(b'"caller":"reporting"', b'"caller":"nobody"')
    tail, head = chain.extend(chain.Head(before.writer, before.seq, before.hash), [altered])
    note = chain.checkpoint(
        head,
        time="2026-11-24T09:00:00.000000Z",
        signer=CheckpointSigner(keyring.checkpoints()[0]),
        final=True,
    )
    tail += chain.extend(head, [chain.encode_note(note)])[0]
    export.write_bytes(b"".join(json_lines([*entries[:kept], *tail])))

    monkeypatch.setenv("BROKER_STATE_DIR", str(tmp_path / "state"))
    command = ["audit", "verify", "--export", str(export)]
    assert CliRunner().invoke(app, command).exit_code == 0
    found = CliRunner().invoke(app, [*command, "--anchor", str(anchors)])
    assert found.exit_code == 1
    assert "an anchored checkpoint" in found.output
    true = ["audit", "verify", "--store", f"sqlite:///{made.broker.audit_file}"]
    assert CliRunner().invoke(app, [*true, "--anchor", str(anchors)]).exit_code == 0

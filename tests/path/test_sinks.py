"""The record, forwarded: behind the requests, and with nothing lost over a restart."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from typing import TYPE_CHECKING

from pydantic import SecretStr

from app.audit.export import read_json_lines
from app.audit.keys import CheckpointKeys
from app.audit.record import decode, is_record
from app.audit.sqlite_entries import read_entries
from app.audit.verify import verify
from app.path.keyring import read_keyring
from tests.path.reaching import until
from tests.path.staging import serving, staging
from tests.path.stand_ins import says

if TYPE_CHECKING:
    from pathlib import Path

    from app.audit.chain import Entry
    from tests.path.reaching import Reachable
    from tests.path.stand_ins import Arrived, StandIn, StandInHost

READ = "/environments/prod/api/data/v9.2/accounts?$select=name"


def received(hook: StandIn) -> list[Entry]:
    lines = b"".join(arrived.body for arrived in hook.arrived).splitlines(keepends=True)
    return list(read_json_lines(lines)[1])


def lag(broker: Reachable) -> dict[str, float]:
    text = broker.ask("GET", "/metrics").text
    rows = [line.split() for line in text.splitlines() if line.startswith("broker_audit_sink_lag")]
    return {name: float(value) for name, value in rows}


LAG_RECORDS = 'broker_audit_sink_lag_records{sink="webhook"}'
LAG_SECONDS = 'broker_audit_sink_lag_seconds{sink="webhook"}'


def test_a_sink_that_hangs_holds_nobody_up_and_gets_everything_in_the_end(
    host: StandInHost, tmp_path: Path
) -> None:
    over = threading.Event()

    async def hang(_: Arrived, _in: asyncio.StreamReader, _out: asyncio.StreamWriter) -> None:
        while not over.is_set():  # noqa: ASYNC110 - another thread's doing
            await asyncio.sleep(0.01)

    hook = host.start(lambda _: hang)
    url = SecretStr(f"{hook.url}/in")
    with staging(host, tmp_path, audit_webhook_url=url) as made:
        until(lambda: hook.arrived or None)
        began = time.monotonic()
        ids = [
            made.broker.ask("GET", READ, caller="reporting").header("broker-request-id")
            for _ in range(10)
        ]
        assert time.monotonic() - began < 5
        told = lag(made.broker)
        assert told[LAG_RECORDS] >= 1
        assert told[LAG_SECONDS] > 0
        hook.answer = lambda _: says(503)
        over.set()  # or its thread would outlive this broker, as none outlives a process
    hook.clear()
    hook.answer = lambda _: says(204)
    with staging(host, tmp_path, audit_webhook_url=url) as made:
        ids.append(made.broker.ask("GET", READ, caller="reporting").header("broker-request-id"))
        until(lambda: lag(made.broker) == {LAG_RECORDS: 0, LAG_SECONDS: 0} or None)
    got = received(hook)
    assert got == [entry for _, entry in read_entries(made.broker.audit_file)]
    asked = [decode(e.body).request_id for e in got if is_record(e.body)]
    assert [i for i in asked if i in ids] == ids
    keyring = read_keyring((tmp_path / "state" / "signing-key.pem").read_bytes())
    keys = CheckpointKeys(key.public_key() for key in keyring.checkpoints())
    assert verify(got, keys=keys).good


def test_a_kill_leaves_no_gap_on_stdout(host: StandInHost, tmp_path: Path) -> None:
    ids: list[str | None] = []
    for number in (signal.SIGKILL, signal.SIGTERM):
        with serving(host, tmp_path, BROKER_AUDIT_STDOUT="true") as made:
            for _ in range(5):
                answer = made.broker.ask("GET", READ, caller="reporting")
                ids.append(answer.header("broker-request-id"))
            made.broker.tell(number)
            made.broker.gone()
    lines = [json.loads(line) for line in made.broker.log().splitlines() if line.startswith("{")]
    told = [line.get("request_id") for line in lines if line.get("phase") == "outcome"]
    assert list(dict.fromkeys(i for i in told if i in ids)) == ids

"""The broker's process ends: asked to, it finishes what it began; killed, its record holds."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.path.raw_http import Closed, RawAnswer, RawConnection, request_bytes
from tests.path.reaching import until
from tests.path.staging import Served, serving
from tests.path.stand_ins import ROW_ID, Arrived, ordinary, says, stand_in_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.path.stand_ins import Conduct, StandInHost

ROOT = "/environments/prod/api/data/v9.2"
READ = f"{ROOT}/accounts?$select=name"
CONTACT = f"{ROOT}/contacts({ROW_ID})"

KILLS = int(os.environ.get("BROKER_TEST_KILLS", "5"))
"""Rounds of the test that kills; 50 of them take two minutes."""


@pytest.fixture
def host() -> Iterator[StandInHost]:
    with stand_in_host() as started:
        yield started


# ------------------------------------------------------------------------ asked to end


def slowly(begun: threading.Event, *, after_s: float) -> Conduct:
    async def conduct(
        arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        begun.set()
        await asyncio.sleep(after_s)
        writer.write(ordinary(arrived))
        await writer.drain()

    return conduct


def test_sigterm_lets_what_has_begun_come_to_its_end(host: StandInHost, tmp_path: Path) -> None:
    begun = threading.Event()
    with serving(host, tmp_path) as served:
        served.prod.answer = lambda _: slowly(begun, after_s=1.0)
        answers: list[RawAnswer] = []

        def asks(method: str, target: str, caller: str, body: object) -> None:
            answers.append(served.broker.ask(method, target, caller=caller, body=body))

        threads = [
            threading.Thread(target=asks, args=args)
            for args in (
                ("GET", READ, "reporting", None),
                ("PATCH", CONTACT, "crm-writer", {"jobtitle": "x"}),
            )
        ]
        with served.broker.connect() as idle:
            for thread in threads:
                thread.start()
            assert begun.wait(10)
            time.sleep(0.3)
            served.broker.tell(signal.SIGTERM)
            assert idle.rest() == b"", "a connection at rest is closed soon"
        until(lambda: None if _accepts(served) else True)
        for thread in threads:
            thread.join()
        assert served.broker.gone() == 0
    assert sorted(a.status for a in answers) == [200, 204]
    for answer in answers:
        records = served.broker.records_of(answer.header("broker-request-id"))
        assert records[-1].outcome == "completed"
    assert "Traceback" not in served.broker.log()


def _accepts(served: Served) -> bool:
    try:
        served.broker.connect().close()
    except OSError:
        return False
    return True


def test_readiness_is_denied_before_anything_else_is(host: StandInHost, tmp_path: Path) -> None:
    with serving(host, tmp_path, BROKER_DRAIN_S="2") as served:
        assert served.broker.ask("GET", "/readyz").status == 200
        served.broker.tell(signal.SIGTERM)
        until(lambda: served.broker.ask("GET", "/readyz").status == 503 or None)
        told = served.broker.ask("GET", "/readyz").json()
        assert [c["name"] for c in told["checks"] if not c["ok"]] == ["end"]
        assert served.broker.ask("GET", READ, caller="reporting").status == 200
        until(lambda: None if _accepts(served) else True)
        assert served.broker.gone() == 0


def test_a_second_signal_does_not_wait(host: StandInHost, tmp_path: Path) -> None:
    with serving(host, tmp_path, BROKER_DRAIN_S="600") as served:
        served.broker.tell(signal.SIGTERM)
        until(lambda: served.broker.ask("GET", "/readyz").status == 503 or None)
        served.broker.tell(signal.SIGTERM)
        assert served.broker.gone() == 0


def test_a_stream_comes_to_its_end_too(host: StandInHost, tmp_path: Path) -> None:
    begun = threading.Event()
    whole = says(200, {"value": ["x" * 1000] * 300})

    async def in_parts(
        _arrived: Arrived, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for at in range(0, len(whole), 50_000):
            writer.write(whole[at : at + 50_000])
            await writer.drain()
            begun.set()
            await asyncio.sleep(0.1)

    with serving(host, tmp_path) as served:
        served.prod.answer = lambda _: in_parts
        with served.broker.connect() as connection:
            connection.send(request_bytes("GET", READ, served.broker.bearer("reporting")))
            assert begun.wait(10)
            served.broker.tell(signal.SIGTERM)
            assert connection.answer().json() == {"value": ["x" * 1000] * 300}
        assert served.broker.gone() == 0


def test_a_request_on_its_way_at_sigterm_is_answered_and_told_that_it_is_the_last(
    host: StandInHost, tmp_path: Path
) -> None:
    with serving(host, tmp_path) as served, served.broker.connect() as kept:
        served.broker.tell(signal.SIGTERM)
        until(lambda: None if _accepts(served) else True)
        headers = served.broker.bearer("crm-writer") | {"Content-Type": "application/json"}
        kept.send(request_bytes("PATCH", CONTACT, headers, b'{"jobtitle":"x"}'))
        answer = kept.answer()
        assert (answer.status, answer.header("connection")) == (204, "close")
        assert kept.rest() == b""
        assert served.broker.gone() == 0


ENDS = int(os.environ.get("BROKER_TEST_ENDS", "20"))
"""Rounds of the test that ends the broker under load; each takes two seconds."""


@dataclass
class Callers:
    """What all of one round heard. A connection is kept for as long as the broker keeps it."""

    told_at: float = float("inf")
    """When the broker was told to end."""
    answered: list[tuple[float, int, str]] = field(default_factory=list)
    """When, status and request id."""
    broken: list[str] = field(default_factory=list)
    turned_away: int = 0
    """Connections that were refused: those callers go to another replica."""

    def ask_on_and_on(self, served: Served, number: int) -> None:
        while True:
            try:
                connection = served.broker.connect()
            except ConnectionRefusedError:
                self.turned_away += 1
                return
            with connection:
                self._ask(connection, served, number)

    def _ask(self, connection: RawConnection, served: Served, number: int) -> None:
        writes = number % 2 == 1
        method, target = ("PATCH", CONTACT) if writes else ("GET", READ)
        headers = served.broker.bearer("crm-writer" if writes else "reporting")
        headers["Content-Type"] = "application/json"
        request = request_bytes(method, target, headers, b'{"jobtitle":"x"}' if writes else None)
        while True:
            sent_at = time.monotonic() - self.told_at
            try:
                connection.send(request)
                answer = connection.answer()
            except (OSError, Closed) as error:
                self.broken.append(f"{sent_at:+.4f} s: {method}: {error!r}")
                return
            request_id = answer.header("broker-request-id") or ""
            self.answered.append((time.monotonic(), answer.status, request_id))
            if answer.header("connection") == "close":
                return


@pytest.mark.slow
def test_sigterm_under_load_breaks_nothing_off(host: StandInHost, tmp_path: Path) -> None:
    """Whoever is connected gets its answers, the last of which says so; nobody comes anew."""
    after = 0
    for number in range(ENDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        callers = Callers()
        with serving(host, folder) as served:
            threads = [
                threading.Thread(target=callers.ask_on_and_on, args=(served, n)) for n in range(16)
            ]
            for thread in threads:
                thread.start()
            time.sleep(random.Random(number).uniform(0.2, 0.6))  # noqa: S311
            callers.told_at = time.monotonic()
            served.broker.tell(signal.SIGTERM)
            for thread in threads:
                thread.join()
            assert served.broker.gone() == 0
        assert callers.broken == [], f"round {number}"
        assert {status for _, status, _ in callers.answered} == {200, 204}
        assert callers.turned_away == len(threads)
        after += sum(at > callers.told_at for at, _, _ in callers.answered)
        records = served.broker.records()
        completed = {r.request_id for r in records if r.outcome == "completed"}
        assert {request_id for _, _, request_id in callers.answered} == completed
        assert "Traceback" not in served.broker.log()
    assert after > ENDS


def test_an_audit_that_ends_well_says_so(host: StandInHost, tmp_path: Path) -> None:
    with serving(host, tmp_path) as served:
        for _ in range(5):
            served.broker.ask("GET", READ, caller="reporting")
        served.broker.tell(signal.SIGTERM)
        assert served.broker.gone() == 0
        assert verified(served).returncode == 0


# ------------------------------------------------------------------------------ killed


@dataclass
class Seen:
    """What the callers of all rounds were told."""

    answered: list[tuple[str, str]] = field(default_factory=list)
    """Method and request id, of answers that came whole."""
    failed: list[str] = field(default_factory=list)


def asks_on_and_on(served: Served, seen: Seen, number: int, stop: threading.Event) -> None:
    chance = random.Random(number)  # noqa: S311 - no secret
    while not stop.is_set():
        if chance.random() < 0.5:
            method, target, caller, body = "GET", READ, "reporting", None
        else:
            method, target, caller, body = "PATCH", CONTACT, "crm-writer", b'{"jobtitle":"x"}'
        headers = {**served.broker.bearer(caller), "Content-Type": "application/json"}
        try:
            with served.broker.connect() as connection:
                for _ in range(20):
                    connection.send(request_bytes(method, target, headers, body))
                    answer = connection.answer()
                    if answer.status not in {200, 204}:
                        seen.failed.append(f"{answer.status} {answer.text}")
                    seen.answered.append((method, answer.header("broker-request-id") or ""))
        except (OSError, Closed):
            continue


@pytest.mark.slow
def test_after_a_kill_every_answer_and_every_write_is_on_record(
    host: StandInHost, tmp_path: Path
) -> None:
    seen = Seen()
    arrived: list[Arrived] = []
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        for kept in ("audit.db", "audit.db-wal", "audit.db-shm"):
            before = tmp_path / str(number - 1) / kept
            if before.exists():
                (folder / kept).write_bytes(before.read_bytes())
        state = tmp_path / str(number - 1) / "state"
        if state.exists():
            state.rename(folder / "state")
        with serving(host, folder) as served:
            stop = threading.Event()
            threads = [
                threading.Thread(target=asks_on_and_on, args=(served, seen, 100 * number + n, stop))
                for n in range(8)
            ]
            for thread in threads:
                thread.start()
            time.sleep(random.Random(number).uniform(0.2, 1.0))  # noqa: S311
            served.broker.tell(signal.SIGKILL)
            served.broker.gone()
            stop.set()
            for thread in threads:
                thread.join()
            arrived += served.prod.arrived
    records = served.broker.records()
    outcomes = {r.request_id for r in records if r.phase == "outcome"}
    intents = {r.request_id for r in records if r.phase == "intent"}
    writes = [a.header("x-ms-client-request-id") for a in arrived if a.method == "PATCH"]
    assert seen.failed == []
    assert len(seen.answered) > 100 * KILLS
    assert len(writes) > 10 * KILLS
    assert {request_id for _, request_id in seen.answered} <= outcomes
    assert set(writes) <= intents
    told = verified(served)
    assert told.returncode == 0, told.stdout
    assert json.loads(told.stdout)


def verified(served: Served) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "audit", "verify", "--json"],
        env={
            **os.environ,
            "BROKER_AUDIT_URL": f"sqlite:///{served.broker.audit_file}",
            "BROKER_STATE_DIR": str(served.broker.audit_file.parent / "state"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

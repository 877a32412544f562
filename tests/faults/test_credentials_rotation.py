"""Credentials change, end and go wrong while callers call: none of them notices."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from app.sandbox.credentials import WITH_CERTIFICATE, WITH_SECRET, self_signed_pem
from app.sandbox.entra.directory import ClientSecret, RegisteredCertificate
from tests.faults.bad_days import day

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.sandbox.run import Sandbox
    from tests.faults.bad_days import Day
    from tests.path.staging import Configuration

REPORTS = "/environments/contoso/api/data/v9.2/accounts?$select=name&$top=2"


@contextlib.contextmanager
def callers(begun: Day, *, caller: str, target: str, count: int = 6) -> Iterator[list[int]]:
    """Callers who call all the time; the statuses that they got, when they have stopped."""
    statuses: list[int] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            statuses.append(begun.ask(caller, target).status)

    threads = [threading.Thread(target=call, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def in_use(begun: Day, application: str) -> list[tuple[str, bool, str | None]]:
    return [(c["id"], c["in_use"], c["last_error"]) for c in begun.credentials(application)]


def thumbprint(pem: bytes) -> str:
    return RegisteredCertificate.from_pem(pem).thumbprint().hex().upper()


def test_a_certificate_replaced_under_load_loses_no_request(tmp_path: Path) -> None:
    """In the wrong order even: the file first, Entra later, as a hasty deployment does it."""
    pem_file = tmp_path / "reporting.pem"

    def change(configuration: Configuration, sandbox: Sandbox) -> None:
        held = sandbox.applications[WITH_CERTIFICATE].certificate
        assert held is not None
        pem_file.write_bytes(held.pem_file.read_bytes())
        configuration["applications"][WITH_CERTIFICATE]["credentials"] = [
            {"certificate": {"file": str(pem_file)}}
        ]

    new = self_signed_pem(common_name="new", now=datetime.now(UTC))
    with day(tmp_path, change=change) as begun:
        registered = begun.registered(WITH_CERTIFICATE)
        old = in_use(begun, WITH_CERTIFICATE)[0][0]
        with callers(begun, caller="reporting", target=REPORTS) as statuses:
            begun.until(lambda: statuses)
            replaced = pem_file.with_suffix(".new")
            replaced.write_bytes(new)
            replaced.replace(pem_file)
            # Entra does not know it: it is put aside, and the old one goes on working.
            begun.until(lambda: len(begun.credentials(WITH_CERTIFICATE)) == 2)
            begun.until(lambda: "AADSTS700027" in str(in_use(begun, WITH_CERTIFICATE)))
            assert (old, True, None) in in_use(begun, WITH_CERTIFICATE)
            for _ in range(3):
                begun.forget_tokens(WITH_CERTIFICATE)
                assert begun.ask("reporting", REPORTS).status == 200

            registered.certificates += (RegisteredCertificate.from_pem(new),)
            begun.clock.pass_by(seconds=400)
            begun.until(lambda: in_use(begun, WITH_CERTIFICATE) == [(thumbprint(new), True, None)])
            registered.certificates = registered.certificates[-1:]
            for _ in range(3):
                begun.forget_tokens(WITH_CERTIFICATE)
                assert begun.ask("reporting", REPORTS).status == 200
        assert set(statuses) == {200}
        assert len(statuses) > 50
        assert begun.readiness() == (200, "")


def test_a_secret_that_expires_while_another_stands_behind_it_is_noticed_by_nobody(
    tmp_path: Path,
) -> None:
    def change(configuration: Configuration, _sandbox: Sandbox) -> None:
        (tmp_path / "second.secret").write_text("second-secret-hunter2")
        configuration["applications"][WITH_SECRET]["credentials"].append(
            {"client_secret": {"file": "second.secret"}, "expires": datetime(2099, 1, 1).date()}  # noqa: DTZ001
        )

    with day(tmp_path, change=change) as begun:
        registered = begun.registered()
        (first,) = registered.secrets
        ends = begun.clock.now() + timedelta(minutes=30)
        registered.secrets = (
            ClientSecret(value=first.value, expires=ends),
            ClientSecret(value="second-secret-hunter2"),
        )
        begun.forget_tokens()
        with callers(begun, caller="invoice-loader", target=REPORTS) as statuses:
            begun.until(lambda: statuses)
            assert [c["in_use"] for c in begun.credentials()] == [True, False]
            begun.clock.pass_by(minutes=31)
            # Its token outlives the secret; the renewal is what meets the refusal.
            begun.clock.pass_by(minutes=20)
            begun.until(lambda: [c["in_use"] for c in begun.credentials()] == [False, True])
            begun.clock.pass_by(hours=2)
            assert begun.ask(target=REPORTS).status == 200
        assert set(statuses) == {200}
        first_told, second_told = begun.credentials()
        assert "AADSTS7000222" in first_told["last_error"]
        assert second_told["last_success"] is not None
        assert begun.readiness() == (
            200,
            "erp-invoices credentials[0] (client_secret) is refused by Entra",
        )
        assert "hunter2" not in str(begun.credentials()) + begun.readiness()[1]


def test_a_secret_that_expires_with_nothing_behind_it_is_named_when_its_token_ends(
    tmp_path: Path,
) -> None:
    with day(tmp_path) as begun:
        registered = begun.registered()
        begun.forget_tokens()
        assert begun.ask().status == 200
        registered.secrets = (
            ClientSecret(value=registered.secrets[0].value, expires=begun.clock.now()),
        )
        begun.clock.pass_by(minutes=60)
        begun.until(lambda: "is refused by Entra" in begun.readiness()[1])
        assert begun.ask().status == 200, "its token is still valid"
        begun.clock.pass_by(minutes=16)
        answer = begun.ask()
        assert answer.status == 503
        problem = answer.json()
        assert (problem["cause"], problem["aadsts"]) == ("credential-refused", "AADSTS7000222")
        assert "the client secret has expired" in problem["detail"]
        assert problem["remedy"].startswith("Create a new secret (or better, a certificate)")
        retry_after_s = int(answer.header("retry-after") or 0)
        assert 1 <= retry_after_s <= 300, "five minutes is how long a repair may stay unnoticed"

        registered.secrets = (ClientSecret(value=registered.secrets[0].value),)
        begun.clock.pass_by(seconds=retry_after_s)
        assert begun.ask().status == 200
        assert begun.readiness() == (200, "")

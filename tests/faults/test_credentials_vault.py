"""A key vault is down, at the start too: what it holds is used again when it comes back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import yaml

from app.sandbox.credentials import WITH_SECRET, self_signed_pem
from app.sandbox.entra import faults
from app.sandbox.entra.directory import RegisteredCertificate
from tests.faults.bad_days import day

if TYPE_CHECKING:
    from pathlib import Path

    from app.sandbox.run import Sandbox
    from tests.faults.bad_days import Day
    from tests.path.staging import Configuration

REREAD_S = 305


def keep_in_vault(sandbox: Sandbox) -> None:
    """The secret and a certificate of the application lie in the vault."""
    held = sandbox.applications[WITH_SECRET]
    assert held.client_secret is not None
    sandbox.key_vault.put_secret("erp-secret", held.client_secret)
    pem = self_signed_pem(common_name="erp", now=datetime.now(UTC))
    sandbox.key_vault.put_certificate("erp-certificate", pem)
    registered = sandbox.tenant.applications[held.client_id]
    registered.certificates = (RegisteredCertificate.from_pem(pem),)


def keep_in_vault_and_go_down(sandbox: Sandbox) -> None:
    keep_in_vault(sandbox)
    sandbox.key_vault.faults.add(faults.dropped())


def in_vault(sandbox: Sandbox) -> dict[str, object]:
    return {
        "client_secret": {"key_vault": {"vault": sandbox.key_vault_url, "name": "erp-secret"}},
        "expires": datetime(2099, 1, 1, tzinfo=UTC).date(),
    }


def first_of_two(configuration: Configuration, sandbox: Sandbox) -> None:
    credentials = configuration["applications"][WITH_SECRET]["credentials"]
    credentials.insert(0, in_vault(sandbox))


def alone(configuration: Configuration, sandbox: Sandbox) -> None:
    configuration["applications"][WITH_SECRET]["credentials"] = [in_vault(sandbox)]


def signer_first(configuration: Configuration, sandbox: Sandbox) -> None:
    credentials = configuration["applications"][WITH_SECRET]["credentials"]
    signer = {"vault": sandbox.key_vault_url, "certificate": "erp-certificate"}
    credentials.insert(0, {"key_vault_signer": signer})


def in_use(begun: Day) -> list[bool]:
    return [credential["in_use"] for credential in begun.credentials()]


def test_a_vault_that_is_down_at_the_start_leaves_the_next_credential(tmp_path: Path) -> None:
    with day(tmp_path, change=first_of_two, prepare=keep_in_vault_and_go_down) as begun:
        assert begun.ask().status == 200
        assert in_use(begun) == [False, True]
        status, detail = begun.readiness()
        assert status == 200
        assert detail == "erp-invoices credentials[0] (client_secret) cannot be read"
        assert begun.sandbox.key_vault_url not in detail

        begun.sandbox.key_vault.faults.clear()
        begun.clock.pass_by(seconds=REREAD_S)
        begun.until(lambda: in_use(begun) == [True, False])
        assert begun.ask().status == 200
        assert begun.readiness() == (200, "")


def test_a_vault_that_is_down_at_the_start_keeps_others_from_nothing(tmp_path: Path) -> None:
    with day(tmp_path, change=alone, prepare=keep_in_vault_and_go_down) as begun:
        assert begun.ask("reporting").status == 200, "the schema too comes as its application"
        answer = begun.ask()
        assert (answer.status, answer.json()["cause"]) == (503, "credential-unreadable")
        assert int(answer.header("retry-after") or 0) >= 1

        begun.sandbox.key_vault.faults.clear()
        begun.clock.pass_by(seconds=REREAD_S)
        begun.until(lambda: begun.readiness()[1] == "")


def test_a_vault_that_goes_down_is_not_missed_by_what_was_read(tmp_path: Path) -> None:
    with day(tmp_path, change=alone, prepare=keep_in_vault) as begun:
        assert begun.ask().status == 200
        begun.sandbox.key_vault.faults.add(faults.dropped())
        begun.count_from_here()
        begun.clock.pass_by(minutes=45)
        begun.until(lambda: begun.token_requests)
        assert begun.ask().status == 200, "the secret is in memory, and Entra works"
        begun.until(
            lambda: (
                begun.readiness()[1]
                == "erp-invoices credentials[0] (client_secret) cannot be read again; the one read "
                "before is used"
            )
        )
        begun.sandbox.key_vault.faults.clear()
        begun.clock.pass_by(seconds=REREAD_S)
        begun.until(lambda: begun.readiness() == (200, ""))


def test_a_vault_that_goes_down_keeps_no_change_of_the_configuration_out(tmp_path: Path) -> None:
    """A caller who must be shut out is shut out, vault or no vault."""
    with day(tmp_path, change=alone, prepare=keep_in_vault) as begun:
        assert begun.ask().status == 200
        begun.sandbox.key_vault.faults.add(faults.dropped())
        file = tmp_path / "broker.yaml"
        configuration = yaml.safe_load(file.read_text())
        configuration["callers"]["invoice-loader"]["disabled"] = True
        written = file.with_suffix(".new")
        written.write_text(yaml.safe_dump(configuration))
        written.replace(file)
        begun.until(lambda: begun.ask().status == 401)


def test_a_reference_that_is_new_must_be_there_or_the_last_good_one_stays(tmp_path: Path) -> None:
    with day(tmp_path, change=alone, prepare=keep_in_vault) as begun:
        assert begun.ask().status == 200
        begun.sandbox.key_vault.faults.add(faults.dropped())
        file = tmp_path / "broker.yaml"
        configuration = yaml.safe_load(file.read_text())
        (credential,) = configuration["applications"][WITH_SECRET]["credentials"]
        credential["client_secret"]["key_vault"]["name"] = "another"
        written = file.with_suffix(".new")
        written.write_text(yaml.safe_dump(configuration))
        written.replace(file)
        begun.until(lambda: begun.broker.running.current.degraded)
        assert begun.ask().status == 200


@pytest.mark.parametrize("goes_down", ["keys/sign", "all"])
def test_a_vault_that_signs_no_more_leaves_the_next_credential(
    tmp_path: Path, goes_down: str
) -> None:
    with day(tmp_path, change=signer_first, prepare=keep_in_vault) as begun:
        begun.forget_tokens()
        assert begun.ask().status == 200
        assert in_use(begun) == [True, False]
        if goes_down == "all":
            begun.sandbox.key_vault.faults.add(faults.dropped())
        else:
            begun.sandbox.key_vault.faults.add(faults.throttled(retry_after_s=None))
        begun.forget_tokens()
        assert begun.ask().status == 200
        assert in_use(begun) == [False, True]

        begun.sandbox.key_vault.faults.clear()
        begun.clock.pass_by(seconds=120)
        begun.until(lambda: in_use(begun) == [True, False])
        assert begun.ask().status == 200

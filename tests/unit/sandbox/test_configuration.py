from __future__ import annotations

import asyncio
import hashlib
import re
import stat
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from app.config.cautions import cautions
from app.config.loading import load
from app.sandbox.configuration import CALLERS, caller_keys, write_configuration
from app.sandbox.run import (
    Sandbox,
    SandboxOptions,
    Showing,
    running_sandbox,
    sandbox_in_thread,
    serve_sandbox,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BROKER_URL = "https://127.0.0.1:8443"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    options = SandboxOptions(
        state_dir=tmp_path_factory.mktemp("sandbox"),
        environment_ports={"contoso": 0, "fabrikam": 0},
    )
    with sandbox_in_thread(options) as sandbox:
        yield sandbox


def test_the_broker_loads_what_is_written(sandbox: Sandbox) -> None:
    file = write_configuration(sandbox.state_dir, sandbox, broker_url=BROKER_URL)
    loaded = load(file)
    configuration = loaded.configuration
    assert configuration.public_url == BROKER_URL
    assert set(configuration.callers) == set(CALLERS)
    assert {name: e.url for name, e in configuration.environments.items()} == {
        name: e.url for name, e in sandbox.environments.items()
    }
    assert {str(a.client_id) for a in configuration.applications.values()} == {
        a.client_id for a in sandbox.applications.values()
    }
    # What is left to say against it is what it is there to show.
    shown = [str(c) for c in cautions(configuration, today=sandbox.entra.now().date())]
    meant = re.compile("is a client secret: |^legacy-job: in contoso issue_token")
    assert [line for line in shown if not meant.search(line)] == []


def test_callers_have_the_rights_that_their_names_promise(sandbox: Sandbox) -> None:
    file = write_configuration(sandbox.state_dir, sandbox, broker_url=BROKER_URL)
    callers: dict[str, Any] = yaml.safe_load(file.read_text())["callers"]
    (loader,) = callers["invoice-loader"]["grants"]
    assert loader["tables"]["accounts"]["operations"] == ["read", "append_to"]
    assert loader["tables"]["invoices"]["operations"] == ["read", "create", "update"]
    assert loader["limits"] == {"page_size": 10}
    issuing = {n for n, c in callers.items() for g in c.get("grants", []) if g.get("issue_token")}
    assert issuing == {"legacy-job"}
    assert [g["environment"] for g in callers["reporting"]["grants"]] == ["contoso", "fabrikam"]
    assert set(callers["reporting"]["grants"][0]["tables"]) == {"accounts", "contacts"}
    assert callers["auditor"]["roles"] == ["auditor"]
    assert callers["operator"]["roles"] == ["operator"]
    assert "grants" not in callers["auditor"]


def test_the_configuration_holds_digests_and_no_secret(sandbox: Sandbox) -> None:
    directory = sandbox.state_dir
    file = write_configuration(directory, sandbox, broker_url=BROKER_URL)
    text = file.read_text()
    keys = caller_keys(directory)
    assert set(keys) == set(CALLERS)
    for name, key in keys.items():
        assert re.fullmatch(rf"dvb_{name}_[0-9a-f]{{64}}", key)
        assert key not in text
        assert hashlib.sha256(key.encode()).hexdigest() in text
    secrets = [a.client_secret for a in sandbox.applications.values() if a.client_secret]
    assert len(secrets) == 3
    assert not [secret for secret in secrets if secret in text]
    assert "&id" not in text


def test_what_is_secret_is_for_its_owner_alone(sandbox: Sandbox) -> None:
    write_configuration(sandbox.state_dir, sandbox, broker_url=BROKER_URL)
    open_to_others = {
        file.name
        for file in sandbox.state_dir.iterdir()
        if stat.S_IMODE(file.stat().st_mode) & 0o077
    }
    assert open_to_others <= {"broker.yaml", "ca.pem"}


def test_keys_stay_over_a_restart(sandbox: Sandbox, tmp_path: Path) -> None:
    write_configuration(tmp_path, sandbox, broker_url=BROKER_URL)
    keys = caller_keys(tmp_path)
    write_configuration(tmp_path, sandbox, broker_url=BROKER_URL)
    assert caller_keys(tmp_path) == keys
    write_configuration(tmp_path / "other", sandbox, broker_url=BROKER_URL)
    assert caller_keys(tmp_path / "other") != keys


def test_a_configuration_elsewhere_still_finds_its_files(sandbox: Sandbox, tmp_path: Path) -> None:
    file = write_configuration(tmp_path, sandbox, broker_url=BROKER_URL)
    assert load(file).configuration.applications["erp-reporting"].ca_file == sandbox.ca_file


@pytest.mark.anyio
async def test_a_served_sandbox_shows_itself_and_runs_until_cancelled(tmp_path: Path) -> None:
    shown: asyncio.Queue[Showing] = asyncio.Queue()
    serving = asyncio.create_task(
        serve_sandbox(
            SandboxOptions(state_dir=tmp_path), broker_url=BROKER_URL, show=shown.put_nowait
        )
    )
    showing = await shown.get()
    assert load(showing.configuration).configuration.public_url == BROKER_URL
    assert showing.keys == caller_keys(tmp_path)
    assert not [key for key in showing.keys.values() if key in repr(showing)]
    assert showing.keys_file.exists()
    assert not serving.done()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


@pytest.mark.anyio
async def test_a_restarted_sandbox_keeps_its_ca_and_certificate(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        async with running_sandbox(SandboxOptions(state_dir=tmp_path)) as sandbox:
            certificate = sandbox.applications["erp-reporting"].certificate
            assert certificate is not None
            seen.append((sandbox.ca_file.read_bytes(), certificate.thumbprint))
    assert seen[0] == seen[1]

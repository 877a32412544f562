"""One sandbox for all patients; each is well at first, whatever the one before had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.sandbox.run import SandboxOptions, sandbox_in_thread
from tests.path.examining import Patient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.sandbox.run import Sandbox


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    options = SandboxOptions(state_dir=tmp_path_factory.mktemp("clinic"))
    with sandbox_in_thread(options) as sandbox:
        yield sandbox


@pytest.fixture
def patient(running: Sandbox, tmp_path: Path) -> Iterator[Patient]:
    registered = list(running.tenant.applications.values())
    before = [(a, a.secrets, a.certificates, a.enabled) for a in registered]
    yield Patient(running, tmp_path)
    running.entra.faults.clear()
    running.dataverse.faults.clear()
    for application, secrets, certificates, enabled in before:
        application.secrets, application.certificates = secrets, certificates
        application.enabled = enabled


@pytest.fixture(autouse=True)
def _logs_as_before(logs_as_before: None) -> None:
    """Each of them is a command."""
    del logs_as_before

"""One broker for the policy cases, in front of stand-ins; one in front of the sandbox."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from app import main
from app.config.watching import Watcher
from app.sandbox.run import SandboxOptions, sandbox_in_thread
from tests.path.staging import sandboxing, staging
from tests.path.stand_ins import stand_in_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.sandbox.run import Sandbox
    from tests.path.running import RunningBroker
    from tests.path.staging import Staged
    from tests.path.stand_ins import StandInHost


@pytest.fixture(scope="session")
def host() -> Iterator[StandInHost]:
    with stand_in_host() as started:
        yield started


@pytest.fixture(scope="session")
def stage(host: StandInHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    with staging(host, tmp_path_factory.mktemp("stage")) as made:
        yield made


@pytest.fixture
def staged(stage: Staged) -> Iterator[Staged]:
    """As it was at its start, whatever the test before told the stand-ins."""
    stage.quiet()
    yield stage
    errors = [e for s in stage.environments.values() for e in s.errors]
    assert not errors, errors


@pytest.fixture
def watched(host: StandInHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Staged]:
    """A broker of its own that looks at its configuration often."""
    monkeypatch.setattr(main, "Watcher", partial(Watcher, poll_s=0.02, retry_s=0.1))
    with staging(host, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    options = SandboxOptions(state_dir=tmp_path_factory.mktemp("sandbox"))
    with sandbox_in_thread(options) as running:
        yield running


@pytest.fixture(scope="session")
def sandboxed(
    sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningBroker]:
    with sandboxing(sandbox, tmp_path_factory.mktemp("broker")) as broker:
        yield broker

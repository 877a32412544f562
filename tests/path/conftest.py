"""One broker for the policy cases, in front of stand-ins; one in front of the sandbox."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import SecretStr

from app.sandbox.run import SandboxOptions, caller_keys, sandbox_in_thread, write_configuration
from app.settings import Settings
from tests.path.running import RunningBroker, broker_in_thread, free_port
from tests.path.stand_ins import StandIn, entra, ordinary, stand_in_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.sandbox.run import Sandbox
    from tests.path.stand_ins import StandInHost

CASES = Path(__file__).parent.parent / "policy_cases"


@dataclass(frozen=True, slots=True)
class Staged:
    """A broker with the cases' configuration, and what stands in for the world behind it."""

    broker: RunningBroker
    entra: StandIn
    environments: dict[str, StandIn]
    configuration: dict[str, Any]
    file: Path

    def quiet(self) -> None:
        for stand_in in self.environments.values():
            stand_in.clear()
            stand_in.answer = ordinary
            stand_in.at_head = None

    @property
    def prod(self) -> StandIn:
        return self.environments["prod"]

    def environment_of(self, caller: str) -> str:
        environment: str = self.configuration["callers"][caller]["grants"][0]["environment"]
        return environment


@pytest.fixture(scope="session")
def host() -> Iterator[StandInHost]:
    with stand_in_host() as started:
        yield started


@pytest.fixture(scope="session")
def stage(host: StandInHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    """The cases' broker. Nothing but its stand-ins listens: the schema is pinned."""
    folder = tmp_path_factory.mktemp("stage")
    authority = host.start(entra)
    environments = {name: host.start(ordinary) for name in ("prod", "dev")}
    port = free_port()
    configuration = yaml.safe_load((CASES / "broker.yaml").read_text())
    configuration["public_url"] = f"http://127.0.0.1:{port}"
    for application in configuration["applications"].values():
        application["authority"] = authority.url
    for name, stand_in in environments.items():
        configuration["environments"][name]["url"] = stand_in.url
        configuration["environments"][name]["schema"] = {"file": str(CASES / "metadata.xml")}
    file = folder / "broker.yaml"
    file.write_text(yaml.safe_dump(configuration, sort_keys=False))
    settings = Settings(
        config=file,
        state_dir=folder / "state",
        audit_url=SecretStr(f"sqlite:///{folder / 'audit.db'}"),
    )
    keys = json.loads((CASES / "keys.json").read_text())
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CRM_APP_SECRET", "stand-in-secret")
        patched.setenv("CRM_APP_DEV_SECRET", "stand-in-secret-of-dev")
        with broker_in_thread(settings, port=port, keys=keys) as broker:
            yield Staged(broker, authority, environments, configuration, file)


@pytest.fixture
def staged(stage: Staged) -> Iterator[Staged]:
    """As it was at its start, whatever the test before told the stand-ins."""
    stage.quiet()
    yield stage
    errors = [e for s in stage.environments.values() for e in s.errors]
    assert not errors, errors


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    options = SandboxOptions(state_dir=tmp_path_factory.mktemp("sandbox"))
    with sandbox_in_thread(options) as running:
        yield running


@pytest.fixture(scope="session")
def sandboxed(
    sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningBroker]:
    """A broker in front of the sandbox, with the sandbox's own configuration for it."""
    folder = tmp_path_factory.mktemp("broker")
    port = free_port()
    file = write_configuration(folder, sandbox, broker_url=f"http://127.0.0.1:{port}")
    settings = Settings(
        config=file,
        state_dir=folder / "state",
        audit_url=SecretStr(f"sqlite:///{folder / 'audit.db'}"),
    )
    with broker_in_thread(settings, port=port, keys=caller_keys(folder)) as broker:
        broker.until_ready()
        yield broker

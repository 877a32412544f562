"""A broker with the policy cases' configuration, and what stands in for the world behind it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import SecretStr

from app.sandbox.run import caller_keys, write_configuration
from app.settings import Settings
from tests.path.processes import ServedBroker, served_broker
from tests.path.reaching import free_port
from tests.path.running import RunningBroker, broker_in_thread
from tests.path.stand_ins import StandIn, entra, ordinary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.sandbox.run import Sandbox
    from tests.path.stand_ins import Answering, StandInHost

CASES = Path(__file__).parent.parent / "policy_cases"

Configuration = dict[str, Any]


SECRETS = {
    "CRM_APP_SECRET": "stand-in-secret",
    "CRM_APP_DEV_SECRET": "stand-in-secret-of-dev",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """`file` is the configuration as it was written; whoever changes it changes the broker."""

    entra: StandIn
    environments: dict[str, StandIn]
    configuration: Configuration
    file: Path
    port: int

    def quiet(self) -> None:
        """Everybody behind the broker answers as usual, and has seen nothing."""
        for stand_in in (self.entra, *self.environments.values()):
            stand_in.clear()
            stand_in.at_head = None
        self.entra.answer = entra
        for stand_in in self.environments.values():
            stand_in.answer = ordinary

    @property
    def prod(self) -> StandIn:
        return self.environments["prod"]

    def environment_of(self, caller: str) -> str:
        environment: str = self.configuration["callers"][caller]["grants"][0]["environment"]
        return environment

    def write(self, configuration: Configuration) -> None:
        written = self.file.with_suffix(".new")
        written.write_text(yaml.safe_dump(configuration, sort_keys=False))
        written.replace(self.file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged(Scene):
    """With a broker that a test can look into."""

    broker: RunningBroker


@dataclass(frozen=True, slots=True, kw_only=True)
class Served(Scene):
    """With a broker in a process of its own."""

    broker: ServedBroker


def _scene(
    host: StandInHost, folder: Path, change: Callable[[Configuration], None], prod: Answering
) -> dict[str, Any]:
    """Nothing but the stand-ins listens: the schema is pinned, and plain http is enough."""
    authority = host.start(entra)
    environments = {"prod": host.start(prod), "dev": host.start(ordinary)}
    port = free_port()
    configuration = yaml.safe_load((CASES / "broker.yaml").read_text())
    configuration["public_url"] = f"http://127.0.0.1:{port}"
    for application in configuration["applications"].values():
        application["authority"] = authority.url
    for name, stand_in in environments.items():
        configuration["environments"][name]["url"] = stand_in.url
        configuration["environments"][name]["schema"] = {"file": str(CASES / "metadata.xml")}
    change(configuration)
    file = folder / "broker.yaml"
    file.write_text(yaml.safe_dump(configuration, sort_keys=False))
    return {
        "entra": authority,
        "environments": environments,
        "configuration": configuration,
        "file": file,
        "port": port,
    }


def case_keys() -> dict[str, str]:
    keys: dict[str, str] = json.loads((CASES / "keys.json").read_text())
    return keys


@contextlib.contextmanager
def staging(
    host: StandInHost,
    folder: Path,
    *,
    change: Callable[[Configuration], None] = lambda _: None,
    prod: Answering = ordinary,
    **settings: Any,
) -> Iterator[Staged]:
    """The cases' broker in front of stand-ins; `prod` is what that one says from the start."""

    def with_secrets_in_files(configuration: Configuration) -> None:
        # The process is the test's own: variables would be there for other tests too.
        for application in configuration["applications"].values():
            for credential in application["credentials"]:
                name = credential["client_secret"]["env"]
                secret = folder / name
                secret.write_text(SECRETS[name])
                credential["client_secret"] = {"file": str(secret)}
        change(configuration)

    made = _scene(host, folder, with_secrets_in_files, prod)
    process = settings_in(folder, made["file"], **settings)
    with broker_in_thread(process, port=made["port"], keys=case_keys()) as broker:
        yield Staged(broker=broker, **made)


@contextlib.contextmanager
def serving(
    host: StandInHost,
    folder: Path,
    *,
    change: Callable[[Configuration], None] = lambda _: None,
    prod: Answering = ordinary,
    **environment: str,
) -> Iterator[Served]:
    """The same, in a process of its own."""
    made = _scene(host, folder, change, prod)
    with served_broker(
        folder,
        made["file"],
        port=made["port"],
        keys=case_keys(),
        environment={**SECRETS, **environment},
    ) as broker:
        yield Served(broker=broker, **made)


@contextlib.contextmanager
def sandboxing(
    sandbox: Sandbox, folder: Path, *, change: Callable[[Configuration], None] = lambda _: None
) -> Iterator[RunningBroker]:
    """A broker in front of the sandbox, with the sandbox's own configuration for it."""
    port = free_port()
    file = write_configuration(folder, sandbox, broker_url=f"http://127.0.0.1:{port}")
    configuration = yaml.safe_load(file.read_text())
    change(configuration)
    file.write_text(yaml.safe_dump(configuration, sort_keys=False))
    process = settings_in(folder, file)
    with broker_in_thread(process, port=port, keys=caller_keys(folder)) as broker:
        broker.until_ready()
        yield broker


def settings_in(folder: Path, file: Path, **more: Any) -> Settings:
    return Settings(
        config=file,
        state_dir=folder / "state",
        audit_url=SecretStr(f"sqlite:///{folder / 'audit.db'}"),
        **more,
    )

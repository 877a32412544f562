"""A broker over TLS in front of the sandbox, and ways to run a client library against it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import SecretStr

from app.sandbox.configuration import BROKER_AUDIENCE
from app.sandbox.credentials import CLIENT_IDS, WITH_SECRET
from app.sandbox.run import SandboxOptions, caller_keys, sandbox_in_thread, write_configuration
from app.sandbox.tls import ServerIdentity
from app.settings import Settings
from tests.path.desk import DESK, furnish
from tests.path.running import RunningBroker, broker_in_thread, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.audit.record import Record
    from app.sandbox.run import Sandbox

CALLER = "invoice-loader"
NODE = Path(__file__).parent / "node"
PLACEHOLDER = "https://broker.internal.example"


@dataclass
class Served:
    """The broker as its callers see it."""

    broker: RunningBroker
    sandbox: Sandbox
    file: Path
    environment: dict[str, str] = field(repr=False)
    """What a client's process needs: where the CA is, and its key."""

    @property
    def base(self) -> str:
        return f"{self.broker.url}/environments/contoso"

    def run(self, program: list[str], code: str, **more: str) -> str:
        """Its output; what it was told to do must have succeeded."""
        done = subprocess.run(
            program,
            input=code.replace(PLACEHOLDER, self.broker.url),
            env={**self.environment, **more},
            cwd=NODE,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def python(self, code: str, **more: str) -> str:
        return self.run([sys.executable, "-"], code, **more)

    def node(self, program: Path, code: str, **more: str) -> str:
        return self.run([str(program), "--input-type=module", "-"], code, **more)

    def outcomes(self) -> list[Record]:
        return [r for r in self.broker.records() if r.phase == "outcome"]

    def platform_token(self) -> str:
        """What a platform gives a workload; here it is Entra's, for an app registration."""
        now = int(time.time())
        return self.sandbox.entra.keys.sign(
            {
                "aud": BROKER_AUDIENCE,
                "iss": f"{self.sandbox.entra_url}/{self.sandbox.tenant_id}/v2.0",
                "azp": CLIENT_IDS[WITH_SECRET],
                "idtyp": "app",
                "sub": "workload",
                "iat": now,
                "nbf": now,
                "exp": now + 600,
            }
        )


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("clients")
    with sandbox_in_thread(SandboxOptions(state_dir=folder / "sandbox")) as sandbox:
        port = free_port()
        file = write_configuration(folder, sandbox, broker_url=f"https://127.0.0.1:{port}")
        configuration = yaml.safe_load(file.read_text())
        configuration["callers"][CALLER]["identities"].append(
            {"jwt": {"issuer": "entra", "claims": {"azp": CLIENT_IDS[WITH_SECRET]}}}
        )
        desk_key = furnish(sandbox, configuration, folder)
        file.write_text(yaml.safe_dump(configuration))
        certificate = sandbox.state_dir / "server.pem"
        settings = Settings(
            config=file,
            state_dir=folder / "state",
            audit_url=SecretStr(f"sqlite:///{folder / 'audit.db'}"),
            tls_cert_file=certificate,
            tls_key_file=certificate,
        )
        identity = ServerIdentity(ca_file=sandbox.ca_file, certificate_file=certificate)
        with broker_in_thread(
            settings,
            port=port,
            tls=identity.client_context(),
            keys={**caller_keys(folder), DESK: desk_key},
        ) as broker:
            broker.until_ready()
            yield Served(broker, sandbox, file, _environment(broker, sandbox))


@pytest.fixture(autouse=True)
def unlimited(served: Served) -> None:
    """Wrong secrets of one test, all from one address, are not held against the next."""
    strangers: Any = served.broker.running.broker.strangers
    served.broker.on_loop(strangers._by_address.clear)


def _environment(broker: RunningBroker, sandbox: Sandbox) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    ca_file = str(sandbox.ca_file)
    return {
        **kept,
        "BROKER_KEY": broker.keys[CALLER],
        "DESK_KEY": broker.keys[DESK],
        "IDENTITY_ENDPOINT": f"{broker.url}/msi/token",
        "IDENTITY_HEADER": broker.keys[CALLER],
        "REQUESTS_CA_BUNDLE": ca_file,
        "CURL_CA_BUNDLE": ca_file,
        "SSL_CERT_FILE": ca_file,
        "NODE_EXTRA_CA_CERTS": ca_file,
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture(scope="session")
def node(require_tool: Callable[[str], Path]) -> Path:
    """Node.js, and beside it the libraries of tests/clients/node, installed when first needed."""
    program, npm = require_tool("node"), require_tool("npm")
    lock, installed = NODE / "package-lock.json", NODE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        done = subprocess.run(
            [npm, "ci"], cwd=NODE, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode != 0:
            reason = f"npm ci in {NODE.name} failed: {_last_line(done.stderr)}"
            if os.environ.get("BROKER_TEST_REQUIRE_ALL", "") not in {"", "0"}:
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
        installed.touch()
    return program


def _last_line(text: str) -> str:
    return re.sub(r"https?://\S+", "…", (text.strip().splitlines() or [""])[-1])

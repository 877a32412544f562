from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.cli.serving import Settled, server_config
from app.errors import Misconfigured
from app.sandbox.tls import server_identity
from app.settings import Settings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from app.web.asgi import Message, Receive, Scope, Send

ROOT = Path(__file__).resolve().parents[3]
CASES = ROOT / "tests" / "policy_cases"


@pytest.mark.anyio
async def test_what_the_start_has_made_is_left_alone_by_the_collector() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    before, thresholds = gc.get_freeze_count(), gc.get_threshold()
    try:
        await Settled(app)({"type": "lifespan"}, receive, send)
        assert sent == [{"type": "lifespan.startup.complete"}]
        assert gc.get_freeze_count() > before
        assert gc.get_threshold() > thresholds
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def test_uvicorn_believes_nobody_and_writes_no_access_log() -> None:
    config = server_config(Settings(), "app.cli.serving:worker", factory=True)
    assert not config.proxy_headers
    assert not config.access_log
    assert config.log_config is None
    assert not config.server_header
    assert config.ws == "none"
    assert config.lifespan == "on"
    assert config.timeout_graceful_shutdown == 50


@pytest.mark.parametrize("given", ["tls_cert_file", "tls_key_file"])
def test_a_certificate_without_its_key_is_refused(tmp_path: Path, given: str) -> None:
    file = server_identity(tmp_path).certificate_file
    with pytest.raises(Misconfigured, match="set both, or none"):
        server_config(Settings.model_validate({given: file}), "app")


def test_a_certificate_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    odd = tmp_path / "odd.pem"
    odd.write_text("no certificate")
    with pytest.raises(Misconfigured, match=r"odd\.pem"):
        server_config(Settings(tls_cert_file=odd, tls_key_file=odd), "app")


# ------------------------------------------------------------------ as a process of its own


class Served:
    """`token-broker serve` with the policy cases' configuration, on a free port."""

    def __init__(
        self, folder: Path, settings: dict[str, str], run: Sequence[str] = ("-m", "app.cli")
    ) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CRM_APP_SECRET": "s",
            "CRM_APP_DEV_SECRET": "s",
            "BROKER_CONFIG": str(CASES / "broker.yaml"),
            "BROKER_STATE_DIR": str(folder / "state"),
            "BROKER_AUDIT_URL": f"sqlite:///{folder / 'audit.db'}",
            "BROKER_PORT": "0",
            **settings,
        }
        self.process = subprocess.Popen(
            [sys.executable, *run, "serve"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []

    def until(self, pattern: str) -> re.Match[str]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if (found := re.search(pattern, line)) is not None:
                return found
        raise AssertionError("".join(self.log))

    def end(self, *, within_s: float = 20) -> int:
        assert self.process.stderr is not None
        self.log += self.process.stderr.readlines()
        return self.process.wait(within_s)


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    started: list[Served] = []

    def start(*run: str, **settings: str) -> Served:
        started.append(Served(tmp_path, settings, run or ("-m", "app.cli")))
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.wait()
        for pipe in (served.process.stdout, served.process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_until_it_is_told_to_stop(serve: Serve, workers: str) -> None:
    served = serve(BROKER_WORKERS=workers)
    port = served.until(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")[1]
    for _ in range(int(workers) - (workers == "1")):
        served.until("Application startup complete")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=10) as answer:
        assert answer.read() == b'{"status":"alive"}'
        assert answer.headers["server"] is None
    served.process.send_signal(signal.SIGTERM)
    assert served.end() in {0, -signal.SIGTERM}
    assert any("Application shutdown complete" in line for line in served.log)


def test_it_speaks_tls_itself(serve: Serve, tmp_path: Path) -> None:
    identity = server_identity(tmp_path)
    file = str(identity.certificate_file)
    served = serve(BROKER_TLS_CERT_FILE=file, BROKER_TLS_KEY_FILE=file)
    port = served.until(r"Uvicorn running on https://127\.0\.0\.1:(\d+)")[1]
    context: ssl.SSLContext = identity.client_context()
    url = f"https://127.0.0.1:{port}/readyz"
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"BROKER_CONFIG": "/no/such.yaml"}, "/no/such.yaml: cannot be read"),
        ({"BROKER_CONFIG": "/no/such.yaml", "BROKER_WORKERS": "2"}, "cannot be read"),
        ({"BROKER_PORT": "many"}, "BROKER_PORT: Input should be a valid integer"),
        ({"BROKER_AUDIT_URL": "mysql://x"}, "BROKER_AUDIT_URL: must be sqlite"),
    ],
    ids=["configuration", "in each worker", "setting", "store"],
)
def test_it_does_not_start_with_what_cannot_be_used(
    serve: Serve, settings: dict[str, str], says: str
) -> None:
    served = serve(**settings)
    assert served.end(within_s=40) == 3
    assert says in "".join(served.log)
    assert "Traceback" not in "".join(served.log)


# ------------------------------------------------------------------ what it does without

LATE = {
    "fastapi": "management, when somebody asks for it",
    "starlette": "as FastAPI",
    "app.web.management": "as FastAPI",
    "app.web.views": "as FastAPI",
    "app.web.openapi": "as FastAPI",
    "httpx2": "an issuer's keys, when a JWT is shown; a webhook, where there is one",
    "app.audit.sinks": "a webhook or a collector, where there is one",
    "typer": "commands with options",
    "rich": "commands that show tables",
    "pygments": "as rich",
    "watchfiles": "uvicorn's reload",
    "app.doctor": "a command",
    "app.demo": "a command",
    "app.sandbox": "a command",
    "app.policy.suggest": "a command",
    "asyncpg": "an extra",
    "azure": "an extra",
    "redis": "an extra",
    "opentelemetry": "an extra",
}
"""What a broker that is ready has not loaded, and what each is for."""

AT_ITS_END = "import atexit, sys; atexit.register(lambda: print(*sorted(sys.modules)))"


def test_a_ready_broker_has_loaded_nothing_that_it_may_never_need(serve: Serve) -> None:
    served = serve("-c", f"{AT_ITS_END}; from app.cli.entry import main; main()")
    port = served.until(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")[1]
    for probe in ("livez", "readyz", "metrics"):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{probe}", timeout=10) as answer:
            assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=10)
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == 0
    assert served.process.stdout is not None
    loaded = served.process.stdout.read().split()
    assert "app.web.proxy" in loaded
    assert [
        name for name in loaded if any(name == late or name.startswith(f"{late}.") for late in LATE)
    ] == []

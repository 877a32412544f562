"""What every test may ask for: a quiet environment, and a tool of this machine or a loud skip."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

REQUIRE_ALL = "BROKER_TEST_REQUIRE_ALL"
"""Set where everything must run (.ci/run does): a missing tool then fails its tests."""

RequireTool = Callable[[str], Path]

_WHERE_FROM = {
    "chromium": "Debian's package chromium",
    "hadolint": "pip install --require-hashes -r requirements/ci.txt",
    "helm": "https://helm.sh, or let .ci/run put one into .tools/bin",
    "kubernetes-validate": "pip install --require-hashes -r requirements/ci.txt",
    "node": "Node.js 20 or newer",
    "postgres": "Debian's package postgresql",
    "redis-server": "Debian's package redis-server",
}

# A loaded machine is slow, not wrong: no deadlines. CI draws the same examples each time, so
# that a red run is about the change; new examples are found on the developers' machines.
settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def pytest_configure() -> None:
    """A developer's own BROKER_ settings say nothing about the tests' brokers."""
    for name in list(os.environ):
        if name.startswith("BROKER_") and not name.startswith("BROKER_TEST_"):
            del os.environ[name]
    # A broker that some other test left running logs when it likes, and stdout may be a
    # command's answer just then.
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.__stderr__))


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    """A command sets up the logs of its process, which here is everybody's."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configured)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The loop that the broker runs on; uvicorn is not made for trio."""
    return "asyncio"


@pytest.fixture(scope="session")
def require_tool() -> RequireTool:
    """The path of a program; without it the test is skipped, or fails where all must run."""
    return _require_tool


def _require_tool(name: str) -> Path:
    for folder in _tool_folders():
        found = shutil.which(name, path=str(folder))
        if found:
            return Path(found)
    reason = f"{name} is not on this machine"
    if name in _WHERE_FROM:
        reason += f" (from: {_WHERE_FROM[name]})"
    if os.environ.get(REQUIRE_ALL, "") not in {"", "0"}:
        pytest.fail(f"{reason}, and {REQUIRE_ALL} is set", pytrace=False)
    pytest.skip(reason)


def _tool_folders() -> list[Path]:
    """Where programs are: this environment, the project's own, PATH, PostgreSQL's own folder.

    Debian keeps `initdb` and `postgres` off PATH; `pg_config` knows where.
    """
    folders = [Path(sys.executable).parent, ROOT / ".tools" / "bin"]
    folders += [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run(
            [pg_config, "--bindir"], capture_output=True, text=True, check=False, timeout=10
        )
        folders += [Path(answer.stdout.strip())] if answer.returncode == 0 else []
    return folders + sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)

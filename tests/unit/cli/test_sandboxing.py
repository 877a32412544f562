"""`sandbox` as a process of its own: what it prints works, and it ends when it is told to."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app.sandbox import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def sandbox(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "sandbox", "--state-dir", "box", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        guard = threading.Timer(60, process.kill)
        guard.daemon = True
        guard.start()
        return process

    yield sandbox
    for process in started:
        process.kill()
        process.communicate()


ANY = ("--port", "0", "--entra-port", "0", "--environment", "contoso", "--environment", "fabrikam")


def described(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def ask(told: dict[str, Any], folder: Path, caller: str, path: str) -> tuple[int, dict[str, Any]]:
    context = ssl.create_default_context(cafile=str(folder / told["ca_file"]))
    with httpx2.Client(verify=context, trust_env=False, timeout=20) as client:
        key = {"Authorization": f"Bearer {told['keys'][caller]}"}
        answer = client.get(told["broker"] + path, headers=key)
    return answer.status_code, answer.json()


@pytest.mark.parametrize("told_by", [signal.SIGINT, signal.SIGTERM])
def test_what_it_tells_works_until_it_is_told_to_stop(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, told_by: signal.Signals
) -> None:
    process = start("--json", *ANY)
    told = described(process)
    assert told["environments"].keys() == {"contoso", "fabrikam"}
    accounts = "/environments/contoso/api/data/v9.2/accounts?$select=name&$top=1"
    status, answer = ask(told, tmp_path, "reporting", accounts)
    assert (status, len(answer["value"])) == (200, 1)
    assert ask(told, tmp_path, "auditor", accounts)[0] == 403
    process.send_signal(told_by)
    assert process.wait(20) == 0
    # The same keys open it the next time.
    again = described(start("--json", *ANY))
    assert again["keys"] == told["keys"]


def test_people_see_addresses_and_lines_to_try(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    process = start(*ANY)
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if "/audit/records" in line:
            break
    assert "The sandbox runs" in seen
    assert "box/ca.pem" in seen
    assert seen.count("  curl ") == 3


def test_a_port_that_is_taken_is_named(start: Callable[..., subprocess.Popen[str]]) -> None:
    with servers.listen() as taken:
        port = str(taken.getsockname()[1])
        for option in ("--port", "--entra-port"):
            process = start(*ANY[:4], "--environment", "contoso", option, port)
            _, err = process.communicate(timeout=40)
            assert process.returncode == 3
            assert port in err
            assert "Traceback" not in err

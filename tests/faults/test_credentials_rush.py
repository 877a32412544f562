"""A thousand callers at once, and no token yet: Entra is asked once for each key."""

from __future__ import annotations

import asyncio
import collections
import hashlib
import resource
from typing import TYPE_CHECKING, Any

import pytest

from app.sandbox.credentials import OF_LEGACY_JOB, WITH_CERTIFICATE, WITH_SECRET
from app.sandbox.entra import faults
from tests.faults.bad_days import day
from tests.path.raw_http import request_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.sandbox.run import Sandbox
    from tests.faults.bad_days import Day
    from tests.path.staging import Configuration

CALLERS = 1000
DESCRIPTORS = 4 * CALLERS
"""Both ends of each connection are in this process."""

WHO_AM_I = "/api/data/v9.2/WhoAmI"
ASKED = (
    (WITH_SECRET, "GET", f"/environments/contoso{WHO_AM_I}"),
    (WITH_CERTIFICATE, "GET", f"/environments/contoso{WHO_AM_I}"),
    (WITH_CERTIFICATE, "GET", f"/environments/fabrikam{WHO_AM_I}"),
    (OF_LEGACY_JOB, "POST", "/environments/contoso/token"),
)
"""As which application, and what: a key of the cache each."""


def caller(number: int) -> str:
    return f"caller-{number}"


def key_of(number: int) -> str:
    return f"dvb_{caller(number)}_{number:064x}"


def add_callers(configuration: Configuration, _sandbox: Sandbox) -> None:
    """A thousand, each with a grant of his own."""
    for number in range(CALLERS):
        application, _, target = ASKED[number % len(ASKED)]
        grant: dict[str, Any] = {
            "environment": target.split("/")[2],
            "application": application,
            "functions": ["WhoAmI"],
            "issue_token": target.endswith("/token"),
        }
        sha256 = hashlib.sha256(key_of(number).encode()).hexdigest()
        configuration["callers"][caller(number)] = {
            "identities": [{"api_key": {"sha256": sha256}}],
            "grants": [grant],
        }


@pytest.fixture
def rush(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.skip(f"this machine allows {hard} open files, and {DESCRIPTORS} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))
    try:
        folder, both = tmp_path_factory.mktemp("rush"), ("contoso", "fabrikam")
        with day(folder, environments=both, change=add_callers) as begun:
            yield begun
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def at_once(begun: Day, count: int) -> list[int]:
    """The statuses of so many requests, each on a connection of its own, all sent together."""
    ready = asyncio.Event()
    connected = asyncio.Semaphore(100)

    async def one(number: int) -> int:
        _, method, target = ASKED[number % len(ASKED)]
        headers = {"Authorization": f"Bearer {key_of(number)}", "Connection": "close"}
        async with connected:
            reader, writer = await asyncio.open_connection("127.0.0.1", begun.broker.port)
        await ready.wait()
        writer.write(request_bytes(method, target, headers, None, host="broker"))
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ", 2)[1])

    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    await asyncio.sleep(1.0)
    ready.set()
    return await asyncio.gather(*tasks)


def test_a_thousand_callers_on_a_cold_cache_are_one_token_request_for_each_key(rush: Day) -> None:
    for application in (WITH_SECRET, WITH_CERTIFICATE, OF_LEGACY_JOB):
        rush.forget_tokens(application)
    rush.count_from_here()
    # Long enough that all of them have come before the first token is there.
    rush.sandbox.entra.faults.add(faults.slow(2.0))
    statuses = asyncio.run(at_once(rush, CALLERS))
    assert collections.Counter(statuses) == {200: CALLERS}
    assert rush.token_requests == len(ASKED)
    asked = [
        (entry.client_id, entry.audience)
        for entry in list(rush.sandbox.entra.journal)[-len(ASKED) :]
    ]
    assert len(set(asked)) == len(ASKED)

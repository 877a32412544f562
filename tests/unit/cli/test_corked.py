from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from app.cli.corked import JOINED_BYTES, Corked

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Written:
    """A transport that keeps what each call hands over."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.calls.append(data)

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.calls.append(b"".join(pieces))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
async def pair() -> tuple[Written, Any]:
    written = Written()
    return written, Corked(cast("asyncio.Transport", written), asyncio.get_running_loop())


async def test_a_head_leaves_with_the_first_of_its_body(pair: tuple[Written, Any]) -> None:
    written, corked = pair
    corked.hold()
    corked.write(b"head ")
    corked.write(b"body ")
    corked.write(b"more")
    await asyncio.sleep(0)

    assert written.calls == [b"head body ", b"more"]


async def test_a_large_body_is_not_copied_for_it(pair: tuple[Written, Any]) -> None:
    written, corked = pair
    corked.hold()
    corked.write(b"head")
    corked.write(b"x" * (JOINED_BYTES + 1))

    assert [len(call) for call in written.calls] == [JOINED_BYTES + 5]


async def test_a_head_whose_body_takes_its_time_does_not_wait_for_it(
    pair: tuple[Written, Any],
) -> None:
    written, corked = pair
    corked.hold()
    corked.write(b"head")
    assert written.calls == []
    await asyncio.sleep(0)
    corked.write(b"body")

    assert written.calls == [b"head", b"body"]


async def test_closing_leaves_nothing_behind(pair: tuple[Written, Any]) -> None:
    written, corked = pair
    corked.hold()
    corked.write(b"head")
    corked.close()
    await asyncio.sleep(0)

    assert (written.calls, corked.is_closing()) == ([b"head"], True)


async def test_what_nobody_held_leaves_at_once(pair: tuple[Written, Any]) -> None:
    written, corked = pair
    corked.write(b"a")
    corked.write(b"b")

    assert written.calls == [b"a", b"b"]

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.redis_server import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def server(require_tool: Callable[[str], Path], tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that runs, and that the test may stop."""
    running = RedisServer(require_tool("redis-server"), tmp_path)
    running.start()
    yield running
    running.stop()

"""Several brokers of one configuration: behind a proxy, and with a Redis between them."""

from __future__ import annotations

import contextlib
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import SecretStr

from app.limits.strangers import FAILURES_PER_MINUTE
from app.settings import Settings
from tests.faults.redis_server import RedisServer
from tests.path.callers.test_limits import TARGET
from tests.path.running import RunningBroker, broker_in_thread, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.path.callers.conftest import Desk

SPIFFE = "spiffe://corp/erp/loader"


@contextlib.contextmanager
def replica(desk: Desk, folder: Path, name: str, **more: Any) -> Iterator[RunningBroker]:
    """With the desk's configuration, and a certificate for the caller `loader`."""
    configuration = yaml.safe_load(desk.file.read_text())
    configuration["callers"]["loader"]["identities"].append({"certificate": {"san": SPIFFE}})
    # Files are named relative to the configuration's folder.
    file = desk.file.with_name(f"{name}.yaml")
    file.write_text(yaml.safe_dump(configuration))
    settings = Settings(
        config=file,
        state_dir=folder / name,
        audit_url=SecretStr(f"sqlite:///{folder / name}.db"),
        **more,
    )
    with broker_in_thread(settings, keys=desk.broker.keys) as broker:
        broker.until_ready()
        yield broker
    file.unlink()


@pytest.fixture
def behind_a_proxy(desk: Desk, tmp_path: Path) -> Iterator[RunningBroker]:
    with replica(
        desk, tmp_path, "behind-a-proxy", trusted_proxies=(ip_network("127.0.0.0/8"),)
    ) as broker:
        yield broker


def test_a_trusted_proxys_certificate_proves_a_caller(behind_a_proxy: RunningBroker) -> None:
    headers = {"X-Forwarded-Client-Cert": f"Hash=1;URI={SPIFFE}", "X-Forwarded-For": "192.0.2.7"}
    answer = behind_a_proxy.ask("GET", "/callers/me", headers=headers)
    assert (answer.status, answer.json()["caller"]) == (200, "loader")
    (record,) = behind_a_proxy.until_recorded(answer.header("broker-request-id"))
    assert record.client_address == "192.0.2.7"
    assert record.identity is not None
    assert (record.identity.kind, record.identity.subject) == ("certificate", SPIFFE)
    for wrong in (f"URI={SPIFFE}/other", f"URI={SPIFFE},URI={SPIFFE}", f"By={SPIFFE}"):
        headers["X-Forwarded-Client-Cert"] = wrong
        assert behind_a_proxy.ask("GET", "/callers/me", headers=headers).status == 401


def test_failures_are_counted_where_they_come_from_behind_a_proxy(
    behind_a_proxy: RunningBroker,
) -> None:
    def fail(address: str) -> int:
        headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": address}
        return behind_a_proxy.ask("GET", "/callers/me", headers=headers).status

    statuses = [fail("198.51.100.9, 192.0.2.7") for _ in range(FAILURES_PER_MINUTE + 1)]
    assert statuses == [401] * FAILURES_PER_MINUTE + [429]
    assert fail("192.0.2.7") == 429
    # What a client claims to the left of the proxy's own word changes nothing.
    assert fail("203.0.113.1, 192.0.2.7") == 429
    assert fail("192.0.2.8") == 401


def test_replicas_share_limits_while_redis_is_there_and_keep_their_own_afterwards(
    desk: Desk, tmp_path: Path, require_tool: Callable[[str], Path]
) -> None:
    redis = RedisServer(require_tool("redis-server"), tmp_path)
    redis.start()
    shared = {"redis_url": SecretStr(redis.url)}
    try:
        with (
            replica(desk, tmp_path, "first", **shared) as first,
            replica(desk, tmp_path, "second", **shared) as second,
        ):
            statuses = [b.ask("GET", TARGET, caller="hasty").status for b in (first, second) * 2]
            assert statuses == [200, 200, 200, 429]
            assert "limits" not in first.ask("GET", "/readyz").text
            redis.stop()
            statuses = [first.ask("GET", TARGET, caller="hasty").status for _ in range(4)]
            assert statuses == [200, 200, 200, 429]
            ready = until(lambda: a if "Redis" in (a := first.ask("GET", "/readyz")).text else None)
            assert ready.status == 200
            assert ready.json()["status"] == "degraded"
            assert second.ask("GET", TARGET, caller="hasty").status == 200
    finally:
        redis.stop()

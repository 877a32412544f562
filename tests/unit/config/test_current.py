"""The configuration that counts stays until a better one is swapped in."""

from __future__ import annotations

from datetime import UTC, datetime

from app.config.current import Current
from app.config.loaded import Loaded
from app.config.model import Configuration
from app.config.secrets import Secrets
from app.errors import Misconfigured

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)
ONE = datetime(2027, 1, 1, 13, tzinfo=UTC)
TWO = datetime(2027, 1, 1, 14, tzinfo=UTC)


def loaded(version: str) -> Loaded:
    configuration = Configuration(public_url="https://broker.example")
    return Loaded(configuration=configuration, version=version, files=(), secrets=Secrets())


def test_a_refused_configuration_is_remembered_beside_the_one_that_counts() -> None:
    first = loaded("1")
    current = Current(first, NOON)
    error = Misconfigured("configuration-invalid", "broken")
    current.degrade(Misconfigured("configuration-invalid", "broken otherwise"), at=ONE)
    current.degrade(error, at=TWO)
    assert current == Current(first, NOON, degraded=error, degraded_since=ONE)


def test_the_next_good_one_ends_the_degradation() -> None:
    current = Current(loaded("1"), NOON)
    current.degrade(Misconfigured("configuration-invalid", "broken"), at=ONE)
    second = loaded("2")
    current.replace(second, at=TWO)
    assert current == Current(second, TWO)

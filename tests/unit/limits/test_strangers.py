"""Whoever fails too often to prove who he is, is not listened to for a while."""

from __future__ import annotations

import pytest

from app.errors import Limited
from app.limits.strangers import ADDRESSES_MAX, FAILURES_PER_MINUTE, Strangers


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def used_up(address: str | None, clock: Clock) -> Strangers:
    strangers = Strangers(monotonic=clock)
    for _ in range(FAILURES_PER_MINUTE):
        strangers.failed(address)
    return strangers


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7", "not an address", "::zz", None])
def test_an_address_that_fails_too_often_is_refused_for_the_rest_of_its_minute(
    address: str | None,
) -> None:
    clock = Clock()
    strangers = used_up(address, clock)
    clock.now += 20
    for _ in range(2):
        with pytest.raises(Limited) as caught:
            strangers.failed(address)
        assert (caught.value.code, caught.value.retry_after_s) == ("rate-limited", 41)
    clock.now += 41
    strangers.failed(address)


def test_an_address_pays_for_no_other() -> None:
    strangers = used_up("192.0.2.7", Clock())
    strangers.failed("192.0.2.8")


def test_an_ipv6_network_of_one_machine_is_one_address() -> None:
    strangers = used_up("2001:db8:0:1::1", Clock())
    with pytest.raises(Limited):
        strangers.failed("2001:db8:0:1:ffff:ffff:ffff:ffff")
    strangers.failed("2001:db8:0:2::1")


def test_many_addresses_are_remembered_within_a_bound() -> None:
    strangers = Strangers(monotonic=Clock())
    for number in range(ADDRESSES_MAX + 10):
        strangers.failed(f"address-{number}")
    assert len(strangers._by_address) == ADDRESSES_MAX

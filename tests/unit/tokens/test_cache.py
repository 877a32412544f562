from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from app.tokens.cache import INVALIDATIONS_MAX, INVALIDATIONS_WITHIN_S
from app.tokens.failure import TokenUnavailable
from app.tokens.lease import SAFETY_MARGIN
from tests.unit.tokens.fakes import (
    CONTOSO,
    FABRIKAM,
    NOON,
    Counted,
    FakeClock,
    FakeEntra,
    down,
    refused,
    settle,
    token,
)

if TYPE_CHECKING:
    from app.tokens.service import TokenService

pytestmark = pytest.mark.anyio

MARGIN_S = SAFETY_MARGIN.total_seconds()


async def test_a_lease_is_asked_for_once_and_then_at_hand(
    service: TokenService, entra: FakeEntra
) -> None:
    assert service.lease_now("erp", CONTOSO) is None
    first = await service.lease("erp", CONTOSO)
    assert service.lease_now("erp", CONTOSO) is first
    assert await service.lease("erp", CONTOSO) is first
    assert entra.asked == [("secret-a", CONTOSO)]
    assert (first.application, first.resource) == ("erp", CONTOSO)
    assert first.expires_on == NOON + timedelta(hours=1)


async def test_a_lease_is_for_one_resource(service: TokenService, entra: FakeEntra) -> None:
    one, other = await asyncio.gather(service.lease("erp", CONTOSO), service.lease("erp", FABRIKAM))
    assert one.authorization() != other.authorization()
    assert sorted(entra.asked) == [("secret-a", CONTOSO), ("secret-a", FABRIKAM)]


async def test_a_thousand_callers_on_a_cold_cache_ask_entra_once(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.gate = asyncio.Event()
    callers = [asyncio.create_task(service.lease("erp", CONTOSO)) for _ in range(1000)]
    await settle()
    entra.gate.set()
    leases = await asyncio.gather(*callers)
    assert len({lease.fingerprint for lease in leases}) == 1
    assert entra.asked == [("secret-a", CONTOSO)]


async def test_a_thousand_callers_get_an_error_each_and_entra_one_request(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.answers = {"secret-a": [down()]}
    entra.gate = asyncio.Event()
    callers = [asyncio.create_task(service.lease("erp", CONTOSO)) for _ in range(1000)]
    await settle()
    entra.gate.set()
    errors = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(error, TokenUnavailable) for error in errors)
    assert len({id(error) for error in errors}) == 1000
    assert len(entra.asked) == 1


async def test_a_caller_who_gives_up_ends_no_one_elses_wait(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.gate = asyncio.Event()
    first = asyncio.create_task(service.lease("erp", CONTOSO))
    second = asyncio.create_task(service.lease("erp", CONTOSO))
    await settle()
    first.cancel()
    await settle()
    entra.gate.set()
    assert (await second).application == "erp"
    assert first.cancelled()
    assert len(entra.asked) == 1


async def test_a_flight_lands_though_everybody_gave_up(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.gate = asyncio.Event()
    only = asyncio.create_task(service.lease("erp", CONTOSO))
    await settle()
    only.cancel()
    await settle()
    entra.gate.set()
    await settle()
    assert service.lease_now("erp", CONTOSO) is not None


async def test_a_caller_waits_only_so_long_and_finds_the_token_next_time(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.gate = asyncio.Event()
    with pytest.raises(TokenUnavailable, match="has not answered") as caught:
        await service.lease("erp", CONTOSO)
    assert caught.value.retry_after_s == 5
    assert caught.value.extra["cause"] == "entra-unreachable"
    entra.gate.set()
    await settle()
    assert service.lease_now("erp", CONTOSO) is not None
    assert len(entra.asked) == 1


async def test_a_token_is_renewed_in_the_background_at_half_its_life(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    first = await service.lease("erp", CONTOSO)
    await clock.advance(1795)
    assert service.lease_now("erp", CONTOSO) is first
    await clock.advance(10)
    second = service.lease_now("erp", CONTOSO)
    assert second is not None
    assert second is not first
    assert len(entra.asked) == 2


async def test_a_token_is_renewed_by_refresh_in_where_entra_gives_one(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [token("1", refresh_in_s=600), token("2")]}
    first = await service.lease("erp", CONTOSO)
    await clock.advance(595)
    assert service.lease_now("erp", CONTOSO) is first
    await clock.advance(10)
    assert service.lease_now("erp", CONTOSO) is not first


async def test_a_token_that_nobody_used_for_a_day_is_let_go(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    await service.lease("erp", CONTOSO)
    await clock.advance(26 * 3600)
    asked = len(entra.asked)
    assert asked > 24
    await clock.advance(4 * 3600)
    assert len(entra.asked) == asked
    assert service.lease_now("erp", CONTOSO) is None
    await service.lease("erp", CONTOSO)
    assert len(entra.asked) == asked + 1


async def test_a_good_token_is_served_while_entra_is_down_and_not_into_its_margin(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [token("1"), down()]}
    first = await service.lease("erp", CONTOSO)
    await clock.advance(3600 - MARGIN_S - 1)
    assert len(entra.asked) > 2
    assert service.lease_now("erp", CONTOSO) is first
    await clock.advance(1)
    assert service.lease_now("erp", CONTOSO) is None
    with pytest.raises(TokenUnavailable) as caught:
        await service.lease("erp", CONTOSO)
    assert caught.value.extra["cause"] == "entra-unreachable"
    assert caught.value.retry_after_s is not None


async def test_a_good_token_is_served_while_entra_is_slow(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    first = await service.lease("erp", CONTOSO)
    entra.gate = asyncio.Event()
    await clock.advance(2000)
    assert len(entra.asked) == 2
    assert await service.lease("erp", CONTOSO) is first
    entra.gate.set()
    await settle()
    assert service.lease_now("erp", CONTOSO) is not first


async def test_a_token_is_as_old_as_its_request_however_long_that_took(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.gate = asyncio.Event()
    asking = asyncio.create_task(service.lease("erp", CONTOSO))
    await settle()
    await clock.advance(30)
    entra.gate.set()
    assert (await asking).expires_on == NOON + timedelta(hours=1)


async def test_a_token_is_not_used_when_the_wall_clock_jumped_beyond_its_end(
    service: TokenService, clock: FakeClock
) -> None:
    await service.lease("erp", CONTOSO)
    clock.set_wall(timedelta(hours=1))
    assert service.lease_now("erp", CONTOSO) is None


async def test_a_token_is_not_used_longer_when_the_wall_clock_went_back(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [token("1"), down()]}
    await service.lease("erp", CONTOSO)
    clock.set_wall(-timedelta(hours=5))
    await clock.advance(3599)
    assert service.lease_now("erp", CONTOSO) is None


async def test_a_failure_is_remembered_until_its_wait_is_over(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [down(), down(), token("1")]}
    with pytest.raises(TokenUnavailable) as first:
        await service.lease("erp", CONTOSO)
    assert first.value.retry_after_s == 1
    with pytest.raises(TokenUnavailable):
        await service.lease("erp", CONTOSO)
    assert len(entra.asked) == 1
    await clock.advance(1)
    with pytest.raises(TokenUnavailable) as second:
        await service.lease("erp", CONTOSO)
    assert second.value.retry_after_s == 2
    await clock.advance(2)
    await service.lease("erp", CONTOSO)
    assert len(entra.asked) == 3


async def test_a_failure_waits_as_long_as_entra_asks(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [down(retry_after_s=40), token("1")]}
    with pytest.raises(TokenUnavailable) as caught:
        await service.lease("erp", CONTOSO)
    assert caught.value.retry_after_s == 40
    await clock.advance(39)
    with pytest.raises(TokenUnavailable) as again:
        await service.lease("erp", CONTOSO)
    assert again.value.retry_after_s == 1
    await clock.advance(1)
    await service.lease("erp", CONTOSO)
    assert len(entra.asked) == 2


async def test_bad_secrets_do_not_hammer_entra(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [refused(7000215)], "secret-b": [refused(7000222)]}
    for _ in range(3600):
        with pytest.raises(TokenUnavailable) as caught:
            await service.lease("erp", CONTOSO)
        await clock.advance(1)
    # 10, 20, 40, 80, 160, then every 300 s: some sixteen times an hour for each secret.
    assert len(entra.asked) <= 2 * 17
    error = caught.value
    assert error.extra["aadsts"] == "AADSTS7000215"
    assert error.extra["cause"] == "credential-refused"
    assert "secret's value" in error.detail
    assert error.retry_after_s is not None


async def test_a_wrong_application_is_not_asked_for_again_and_again(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [refused(700016)]}
    for _ in range(600):
        with pytest.raises(TokenUnavailable):
            await service.lease("erp", CONTOSO)
        await clock.advance(1)
    assert len(entra.asked) <= 8
    assert {secret for secret, _ in entra.asked} == {"secret-a"}, "no other credential helps"


async def test_a_refused_token_is_replaced_once(service: TokenService, entra: FakeEntra) -> None:
    first = await service.lease("erp", CONTOSO)
    assert service.invalidate(first)
    assert service.lease_now("erp", CONTOSO) is None
    second = await service.lease("erp", CONTOSO)
    assert service.invalidate(first), "whoever comes later with the old one gets the new one"
    assert service.lease_now("erp", CONTOSO) is second
    assert len(entra.asked) == 2


async def test_tokens_that_are_refused_again_and_again_are_kept_in_the_end(
    service: TokenService, clock: FakeClock, entra: FakeEntra
) -> None:
    for _ in range(INVALIDATIONS_MAX):
        assert service.invalidate(await service.lease("erp", CONTOSO))
    last = await service.lease("erp", CONTOSO)
    for _ in range(3):
        assert not service.invalidate(last)
        assert service.lease_now("erp", CONTOSO) is last
    assert len(entra.asked) == INVALIDATIONS_MAX + 1
    await clock.advance(INVALIDATIONS_WITHIN_S + 1)
    assert service.invalidate(last)


async def test_forgetting_drops_the_tokens_of_one_application(service: TokenService) -> None:
    await service.lease("erp", CONTOSO)
    await service.lease("erp", FABRIKAM)
    assert service.forget("erp") == 2
    assert service.forget("erp") == 0
    assert service.forget("unknown") == 0
    assert service.lease_now("erp", CONTOSO) is None


async def test_forgetting_lets_a_failure_be_tried_again_at_once(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.answers = {"secret-a": [refused(7000222), token("1")], "secret-b": [refused(7000215)]}
    with pytest.raises(TokenUnavailable):
        await service.lease("erp", CONTOSO)
    service.forget("erp")
    await service.lease("erp", CONTOSO)


async def test_a_token_that_arrives_after_it_was_forgotten_is_not_kept(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.gate = asyncio.Event()
    asking = asyncio.create_task(service.lease("erp", CONTOSO))
    await settle()
    service.forget("erp")
    entra.gate.set()
    await asking
    assert service.lease_now("erp", CONTOSO) is None


async def test_an_application_that_is_not_configured_gets_no_lease(service: TokenService) -> None:
    assert service.lease_now("crm", CONTOSO) is None
    with pytest.raises(TokenUnavailable) as caught:
        await service.lease("crm", CONTOSO)
    assert caught.value.extra["cause"] == "application-unknown"


async def test_closing_ends_what_is_under_way(service: TokenService, entra: FakeEntra) -> None:
    entra.gate = asyncio.Event()
    asking = asyncio.create_task(service.lease("erp", CONTOSO))
    await settle()
    await service.aclose()
    with pytest.raises(TokenUnavailable) as caught:
        await asking
    assert caught.value.extra["cause"] == "broker-stopping"
    assert entra.closed
    with pytest.raises(TokenUnavailable):
        await service.lease("erp", FABRIKAM)


async def test_requests_hits_and_misses_are_counted(
    service: TokenService, entra: FakeEntra, counted: Counted, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [down(), refused(700016), token("1")]}
    for wait_s in (1, 20):
        with pytest.raises(TokenUnavailable):
            await service.lease("erp", CONTOSO)
        await clock.advance(wait_s)
    await service.lease("erp", CONTOSO)
    service.lease_now("erp", CONTOSO)
    assert counted.outcomes == [("erp", "unreachable"), ("erp", "refused"), ("erp", "issued")]
    assert (service.hits, service.misses) == (1, 3)


async def test_a_lease_at_hand_is_cheap(service: TokenService) -> None:
    await service.lease("erp", CONTOSO)
    rounds = 20_000
    began = time.perf_counter()
    for _ in range(rounds):
        service.lease_now("erp", CONTOSO)
    # Ten times the aim of 2 µs: this machine may be busy, but nothing slow may creep in.
    assert (time.perf_counter() - began) / rounds < 20e-6

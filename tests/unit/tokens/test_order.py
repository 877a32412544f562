from __future__ import annotations

import asyncio
import dataclasses
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from app.tokens.failure import Cause, Failure, TokenUnavailable
from app.tokens.service import TokenService
from app.tokens.status import CredentialStatus
from tests.unit.tokens.fakes import (
    CLIENT,
    CONTOSO,
    FABRIKAM,
    NOON,
    Counted,
    FakeClock,
    FakeEntra,
    FakeSecrets,
    application,
    down,
    refused,
    secret_credential,
    settle,
    token,
)

pytestmark = pytest.mark.anyio


def states(service: TokenService) -> list[tuple[str, str]]:
    return [(status.id.rpartition(" ")[2], status.state) for status in service.status()]


async def test_the_first_credential_is_used_while_entra_takes_it(
    service: TokenService, entra: FakeEntra
) -> None:
    await service.lease("erp", CONTOSO)
    assert states(service) == [("A", "active"), ("B", "untried")]
    assert entra.asked == [("secret-a", CONTOSO)]


@pytest.mark.parametrize("code", [7000215, 7000222, 700027, 50012, 7000218, 70021])
async def test_the_next_credential_is_tried_at_once_when_entra_refuses_one(
    service: TokenService, entra: FakeEntra, code: int
) -> None:
    entra.answers = {"secret-a": [refused(code)]}
    lease = await service.lease("erp", CONTOSO)
    assert lease.access_token().startswith("token.secret-b")
    assert states(service) == [("A", "refused"), ("B", "active")]


@pytest.mark.parametrize("code", [700016, 90002, 500011, 7000112, 53003, 65001, 90055, 90033])
async def test_the_next_credential_is_left_alone_where_it_would_not_help(
    service: TokenService, entra: FakeEntra, code: int
) -> None:
    entra.answers = {"secret-a": [refused(code)]}
    with pytest.raises(TokenUnavailable):
        await service.lease("erp", CONTOSO)
    assert entra.asked == [("secret-a", CONTOSO)]
    assert states(service) == [("A", "untried"), ("B", "untried")]


async def test_a_credential_that_cannot_be_read_gives_way_to_the_next(
    service: TokenService, entra: FakeEntra, secrets: FakeSecrets
) -> None:
    del secrets.values["A"]
    await service.lease("erp", CONTOSO)
    first, second = service.status()
    assert (first.state, second.state) == ("refused", "active")
    assert first.last_error == "the variable A is not set"
    assert entra.asked == [("secret-b", CONTOSO)]


async def test_a_refused_credential_is_not_asked_again_by_other_resources(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.answers = {"secret-a": [refused(7000222)]}
    await service.lease("erp", CONTOSO)
    await service.lease("erp", FABRIKAM)
    assert [secret for secret, _ in entra.asked] == ["secret-a", "secret-b", "secret-b"]


async def test_one_refusal_met_by_many_resources_counts_once(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [refused(7000222)]}
    entra.gate = asyncio.Event()
    callers = [
        asyncio.create_task(service.lease("erp", f"https://org{n}.crm4.dynamics.com"))
        for n in range(20)
    ]
    await clock.advance(1)
    entra.gate.set()
    await asyncio.gather(*callers)
    assert service.status()[0].next_try == NOON + timedelta(seconds=1 + 10)


async def test_a_refused_credential_is_probed_later_and_preferred_again(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [refused(7000222), refused(7000222), token("a")]}
    await service.lease("erp", CONTOSO)
    await clock.advance(15)
    assert [secret for secret, _ in entra.asked] == ["secret-a", "secret-b", "secret-a"]
    assert states(service) == [("A", "refused"), ("B", "active")]
    await clock.advance(25)
    assert [secret for secret, _ in entra.asked][3:] == ["secret-a"]
    assert states(service) == [("A", "active"), ("B", "standby")]
    lease = service.lease_now("erp", CONTOSO)
    assert lease is not None
    assert lease.access_token() == "token.a", "what a probe obtained is put to use"


async def test_a_probe_costs_no_caller_anything(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [refused(7000222)]}
    await service.lease("erp", CONTOSO)
    entra.gate = asyncio.Event()
    await clock.advance(15)
    assert entra.asked[-1] == ("secret-a", CONTOSO), "a probe is under way"
    assert service.lease_now("erp", CONTOSO) is not None


async def test_a_failing_probe_is_not_repeated_at_every_tick(
    service: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-a": [refused(7000222), down()]}
    await service.lease("erp", CONTOSO)
    await clock.advance(600)
    probes = [secret for secret, _ in entra.asked].count("secret-a") - 1
    assert 1 <= probes <= 60


async def test_forgetting_lets_a_refused_credential_be_tried_at_once(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.answers = {"secret-a": [refused(7000222), token("a")], "secret-b": [refused(7000215)]}
    with pytest.raises(TokenUnavailable):
        await service.lease("erp", CONTOSO)
    service.forget("erp")
    assert (await service.lease("erp", CONTOSO)).access_token() == "token.a"


async def test_the_error_of_all_is_that_of_the_preferred_one(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.answers = {"secret-a": [refused(7000222)], "secret-b": [refused(7000215)]}
    with pytest.raises(TokenUnavailable) as caught:
        await service.lease("erp", CONTOSO)
    error = caught.value
    assert error.code == "token-unavailable"
    assert error.retry_after_s == 10
    assert error.extra == {
        "cause": "credential-refused",
        "application": "erp",
        "remedy": error.extra["remedy"],
        "aadsts": "AADSTS7000222",
        "entra_error": "invalid_client",
    }
    assert error.detail.startswith(
        "no token for application erp: the client secret has expired (AADSTS7000222, "
    )


# ------------------------------------------------------------------- reloading


@pytest.fixture
async def started(service: TokenService) -> TokenService:
    service.start()
    await settle()
    return service


async def test_a_secret_replaced_behind_its_reference_is_probed_before_it_is_used(
    started: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    app = application(secret_credential("A"), secret_credential("B"))
    first = await started.lease("erp", CONTOSO)
    entra.gate = asyncio.Event()
    started.reload({"erp": app}, FakeSecrets(A="secret-new", B="secret-b"))
    await clock.advance(6)
    assert entra.asked[-1] == ("secret-new", CONTOSO)
    assert started.lease_now("erp", CONTOSO) is first
    assert states(started) == [("A", "untried"), ("A", "active"), ("B", "untried")]
    entra.gate.set()
    await clock.advance(1)
    assert states(started) == [("A", "active"), ("B", "untried")]
    second = started.lease_now("erp", CONTOSO)
    assert second is not None
    assert second.access_token().startswith("token.secret-new")


async def test_a_replacement_that_entra_refuses_leaves_the_old_secret_in_use(
    started: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-new": [refused(7000215), refused(7000215), token("new")]}
    await started.lease("erp", CONTOSO)
    started.reload({"erp": application(secret_credential("A"))}, FakeSecrets(A="secret-new"))
    await clock.advance(6)
    assert states(started) == [("A", "refused"), ("A", "active")]
    await started.lease("erp", FABRIKAM)
    assert entra.asked[-1] == ("secret-a", FABRIKAM)
    await clock.advance(60)
    assert states(started) == [("A", "active")]


async def test_a_replacement_that_is_taken_back_is_forgotten(
    started: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    entra.answers = {"secret-new": [refused(7000215)]}
    app = {"erp": application(secret_credential("A"))}
    await started.lease("erp", CONTOSO)
    started.reload(app, FakeSecrets(A="secret-new"))
    await clock.advance(6)
    started.reload(app, FakeSecrets(A="secret-a"))
    await clock.advance(6)
    assert states(started) == [("A", "active")]


async def test_a_repaired_secret_is_used_without_waiting_for_the_backoff(
    started: TokenService, entra: FakeEntra
) -> None:
    entra.answers = {"secret-a": [refused(7000222)]}
    app = {"erp": application(secret_credential("A"))}
    started.reload(app, FakeSecrets(A="secret-a"))
    with pytest.raises(TokenUnavailable):
        await started.lease("erp", CONTOSO)
    started.reload(app, FakeSecrets(A="secret-new"))
    await settle()
    assert await started.lease("erp", CONTOSO) is started.lease_now("erp", CONTOSO)


async def test_a_new_preferred_credential_is_probed_and_then_preferred(
    started: TokenService, clock: FakeClock
) -> None:
    first = await started.lease("erp", CONTOSO)
    started.reload(
        {"erp": application(secret_credential("N"), secret_credential("A"))},
        FakeSecrets(N="secret-n", A="secret-a"),
    )
    assert started.lease_now("erp", CONTOSO) is first
    assert states(started) == [("N", "untried"), ("A", "active")]
    await clock.advance(6)
    assert states(started) == [("N", "active"), ("A", "standby")]


async def test_a_token_outlives_a_reload_that_keeps_its_credential(service: TokenService) -> None:
    first = await service.lease("erp", CONTOSO)
    service.reload({"erp": application(secret_credential("A"))}, FakeSecrets(A="secret-a"))
    assert service.lease_now("erp", CONTOSO) is first
    assert states(service) == [("A", "active")]


async def test_a_token_goes_with_the_credential_that_obtained_it(service: TokenService) -> None:
    await service.lease("erp", CONTOSO)
    service.reload({"erp": application(secret_credential("B"))}, FakeSecrets(B="secret-b"))
    assert service.lease_now("erp", CONTOSO) is None
    assert (await service.lease("erp", CONTOSO)).access_token().startswith("token.secret-b")


async def test_a_token_that_a_removed_credential_obtains_late_is_not_kept(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.answers = {"secret-a": [token("1", refresh_in_s=1)]}
    entra.gate = asyncio.Event()
    asking = asyncio.create_task(service.lease("erp", CONTOSO))
    await settle()
    service.reload({"erp": application(secret_credential("B"))}, FakeSecrets(B="secret-b"))
    entra.gate.set()
    assert (await asking).access_token() == "token.1"
    assert service.lease_now("erp", CONTOSO) is None


async def test_a_token_goes_with_its_application(service: TokenService) -> None:
    await service.lease("erp", CONTOSO)
    service.reload({}, FakeSecrets())
    assert service.lease_now("erp", CONTOSO) is None
    with pytest.raises(TokenUnavailable):
        await service.lease("erp", CONTOSO)
    assert service.status() == []


async def test_a_name_that_goes_to_another_identity_takes_no_token_along(
    service: TokenService,
) -> None:
    await service.lease("erp", CONTOSO)
    other = application(
        secret_credential("A"), secret_credential("B"), client_id=type(CLIENT)(int=7)
    )
    service.reload({"erp": other}, FakeSecrets(A="secret-a", B="secret-b"))
    assert service.lease_now("erp", CONTOSO) is None
    assert states(service)[0] == ("A", "untried")


async def test_an_identity_under_a_new_name_keeps_its_token(service: TokenService) -> None:
    first = await service.lease("erp", CONTOSO)
    app = application(secret_credential("A"), secret_credential("B"))
    service.reload({"invoices": app}, FakeSecrets(A="secret-a", B="secret-b"))
    kept = service.lease_now("invoices", CONTOSO)
    assert kept is not None
    assert (kept.application, kept.fingerprint) == ("invoices", first.fingerprint)
    assert service.lease_now("erp", CONTOSO) is None
    assert states(service)[0] == ("A", "active")


async def test_a_rotation_under_load_loses_no_request(
    started: TokenService, entra: FakeEntra, clock: FakeClock
) -> None:
    """The old secret dies in Entra as soon as the new one is proven; callers never notice."""
    app = {"erp": application(secret_credential("A"))}
    started.reload(app, FakeSecrets(A="secret-1"))
    served = 0
    for generation in range(2, 8):
        for second in range(40):
            if second == 10:
                started.reload(app, FakeSecrets(A=f"secret-{generation}"))
            if second == 25:
                entra.answers[f"secret-{generation - 1}"] = [refused(7000222)]
            if second % 7 == 0:
                started.forget("erp")
            lease = await started.lease("erp", CONTOSO)
            served += lease.application == "erp"
            await clock.advance(1)
    assert served == 6 * 40
    assert states(started) == [("A", "active")]


async def test_a_reread_finds_a_new_version_by_itself(
    started: TokenService, entra: FakeEntra, secrets: FakeSecrets, clock: FakeClock
) -> None:
    await started.lease("erp", CONTOSO)
    secrets.values["A"] = "secret-new"
    await clock.advance(310)
    assert states(started) == [("A", "active"), ("B", "untried")]
    assert ("secret-new", CONTOSO) in entra.asked


async def test_a_reference_that_fails_later_leaves_what_was_read_in_use(
    started: TokenService, entra: FakeEntra, secrets: FakeSecrets, clock: FakeClock
) -> None:
    await started.lease("erp", CONTOSO)
    secrets.values.clear()
    await clock.advance(310)
    status = started.status()[0]
    assert (status.state, status.last_error) == ("active", "the variable A is not set")
    await started.lease("erp", FABRIKAM)
    assert entra.asked[-1] == ("secret-a", FABRIKAM)


async def test_a_reference_that_can_be_read_again_is_well_again(
    started: TokenService, secrets: FakeSecrets, clock: FakeClock
) -> None:
    await started.lease("erp", CONTOSO)
    before = dict(secrets.values)
    secrets.values.clear()
    await clock.advance(310)
    secrets.values.update(before)
    await clock.advance(310)
    assert started.status()[0].last_error is None


# ---------------------------------------------------------------------- telling


async def test_a_status_tells_all_but_the_secret(service: TokenService, entra: FakeEntra) -> None:
    entra.answers = {"secret-a": [refused(7000222)]}
    await service.lease("erp", CONTOSO)
    first, second = service.status()
    assert first == CredentialStatus(
        application="erp",
        position=0,
        kind="client_secret",
        id="the environment variable A",
        thumbprint_sha256=None,
        state="refused",
        expires_on=None,
        last_success=None,
        last_error="the client secret has expired (AADSTS7000222, invalid_client)",
        last_error_at=NOON,
        last_cause=Cause.CREDENTIAL_REFUSED,
        remedy=first.remedy,
        next_try=NOON + timedelta(seconds=10),
    )
    assert second.last_success == NOON
    assert second.active
    for shown in (repr(service.status()), str([dataclasses.asdict(s) for s in (first, second)])):
        assert "secret-a" not in shown
        assert "secret-b" not in shown


async def test_a_status_is_there_before_anything_was_read(service: TokenService) -> None:
    assert [(s.kind, s.id, s.state) for s in service.status()] == [
        ("client_secret", "the environment variable A", "untried"),
        ("client_secret", "the environment variable B", "untried"),
    ]


async def test_a_refused_credential_is_logged_without_its_secret(
    service: TokenService, entra: FakeEntra
) -> None:
    entra.answers = {"secret-a": [refused(7000222)]}
    with capture_logs() as logs:
        await service.lease("erp", CONTOSO)
    assert [entry["event"] for entry in logs] == ["credential.refused", "token.renewed"]
    assert logs[0]["application"] == "erp"
    assert "AADSTS7000222" in logs[0]["reason"]
    assert "secret-a" not in str(logs)
    assert "token.secret-b" not in str(logs)


async def test_an_expiring_credential_is_warned_of_once_for_each_threshold(
    clock: FakeClock, entra: FakeEntra, counted: Counted
) -> None:
    end = datetime(2027, 1, 1, tzinfo=UTC)
    service = TokenService(
        {"erp": application(secret_credential("A", expires=end))},
        FakeSecrets(A="secret-a"),
        entra=entra,
        clock=clock,
        observer=counted,
    )
    service.start()
    with capture_logs() as logs:
        for _ in range(45):
            await clock.advance(1)
            clock.set_wall(timedelta(days=1))
            await clock.advance(300)
    warned = [entry for entry in logs if entry["event"] == "credential.expiring"]
    assert [entry["days"] for entry in warned] == [30, 14, 7, 1, 0]
    assert warned[0]["expires_on"] == end.isoformat()
    assert service.status()[0].expires_on == end
    await service.aclose()


async def test_a_task_that_fails_is_logged_and_ends_nothing_else(
    service: TokenService, entra: FakeEntra, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(entra, "request", broken)
    with capture_logs() as logs, pytest.raises(RuntimeError, match="a bug"):
        await service.lease("erp", CONTOSO)
    await settle()
    assert "token.task_failed" in [entry["event"] for entry in logs]
    monkeypatch.undo()
    await service.lease("erp", CONTOSO)


async def test_neither_the_service_nor_its_parts_show_a_secret(service: TokenService) -> None:
    lease = await service.lease("erp", CONTOSO)
    source = service._applications["erp"]
    held = source.all()[0]
    entry = next(iter(service._cache._entries.values()))
    for part in (service, source, held, held.material, entry, service._cache, lease):
        for shown in (repr(part), str(part)):
            assert "secret-a" not in shown
            assert lease.access_token() not in shown
    for part in (held, held.material, entry, lease):
        with pytest.raises(TypeError):
            pickle.dumps(part)


def test_a_failure_becomes_a_new_error_each_time() -> None:
    failure = Failure(cause=Cause.ENTRA_UNREACHABLE, meaning="it is down", remedy="Wait.")
    first, second = failure.error("erp", 0.2), failure.error("erp", None)
    assert first is not second
    assert (first.retry_after_s, second.retry_after_s) == (1, None)
    assert first.detail == "no token for application erp: it is down. Wait."

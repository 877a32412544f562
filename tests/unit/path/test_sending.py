"""What a request has in hand when it is sent: a token that is good then, and its turn."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from app.limits.scheduler import Overloaded, Protection, Scheduler, Share
from app.path.errand import Errand, Prepared
from app.path.exchange import Exchange
from app.path.sending import Sender
from app.path.wishes import Wishes
from app.tokens.failure import TokenUnavailable
from app.tokens.lease import Lease
from app.tokens.service import UNKNOWN

if TYPE_CHECKING:
    from app.dataverse.message import UpstreamRequest

pytestmark = pytest.mark.anyio

APP, ENV, URL = "erp", "contoso", "https://contoso.crm4.dynamics.com"
SHARE = Share("loader")
ONE_AT_ONCE = Protection(concurrency=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Entra:
    """Leases of its own numbering; while `silent`, whoever needs a new one waits."""

    def __init__(self) -> None:
        self.at_hand: Lease | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0
        self.refuses = False

    def lease_now(self, application: str, resource: str) -> Lease | None:
        assert (application, resource) == (APP, URL)
        return self.at_hand

    async def lease(self, application: str, resource: str) -> Lease:
        self.asked += 1
        await self.answers.wait()
        if self.refuses:
            raise UNKNOWN.error(application, None)
        self.at_hand = Lease.of(
            f"token-{self.asked}",
            expires_on=datetime(2100, 1, 1, tzinfo=UTC),
            resource=resource,
            application=application,
        )
        return self.at_hand

    def invalidate(self, lease: Lease) -> bool:
        if self.at_hand is lease:
            self.at_hand = None
        return True


class Dataverse:
    def __init__(self) -> None:
        self.tokens: list[bytes] = []

    async def send(self, request: UpstreamRequest, *, timeout_s: float, fresh: bool = False) -> Any:
        del timeout_s, fresh
        self.tokens.append(dict(request.headers)[b"Authorization"])
        return SimpleNamespace(status=200, headers=())


class Sending:
    def __init__(self) -> None:
        self.entra = Entra()
        self.shares = Scheduler(ONE_AT_ONCE)
        self.dataverse = Dataverse()
        observer: Any = SimpleNamespace(upstream=lambda _status, _seconds: None)
        self.sender = Sender(self.entra, self.shares, observer)

    def errand(self, *, timeout_s: float | None = None) -> Errand:
        judged: Any = SimpleNamespace(
            share=SHARE,
            allow=SimpleNamespace(reading=SimpleNamespace(file=False)),
            prepared=Prepared("GET", b"/", ()),
        )
        place: Any = SimpleNamespace(name=ENV, resource=URL)
        return Errand(
            judged=judged,
            place=place,
            upstream=self.dataverse,
            application=APP,
            applications=(APP,),
            exchange=Exchange("1", "1", "proxy", "GET", None),
            wishes=Wishes(timeout_s=timeout_s),
        )

    def begin(self, *, timeout_s: float | None = None) -> asyncio.Task[Any]:
        errand = self.errand(timeout_s=timeout_s)
        return asyncio.create_task(self.sender.send(errand, errand.judged.prepared, harmless=True))

    @property
    def running(self) -> int:
        return sum(state.running for state in self.shares.states())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_waits_for_entra_takes_no_turn() -> None:
    sending = Sending()
    sending.entra.answers.clear()
    waits = sending.begin()
    await settle()
    assert (sending.entra.asked, sending.running) == (1, 0)

    sending.entra.answers.set()
    sent = await waits
    assert sending.running == 1
    sent.turn.leave()
    assert sending.running == 0


async def test_a_token_that_is_not_to_be_had_leaves_every_turn_free() -> None:
    sending = Sending()
    sending.entra.refuses = True
    with pytest.raises(TokenUnavailable):
        await sending.begin()
    assert (sending.running, sending.dataverse.tokens) == (0, [])


async def test_with_both_at_hand_nothing_is_waited_for() -> None:
    sending = Sending()
    await sending.entra.lease(APP, URL)
    errand = sending.errand()
    ready = sending.sender._ready(errand)
    with pytest.raises(StopIteration) as ended:
        ready.send(None)
    lease, turn = ended.value.value
    assert errand.exchange.token_fingerprint == lease.fingerprint
    turn.leave()


async def test_a_token_that_lasts_through_the_line_is_the_one_that_is_sent() -> None:
    sending = Sending()
    first = await sending.begin()
    waits = sending.begin()
    await settle()
    first.turn.leave()
    (await waits).turn.leave()
    assert sending.entra.asked == 1
    assert sending.dataverse.tokens == [b"Bearer token-1"] * 2


async def test_a_token_that_did_not_last_through_the_line_is_leased_anew_without_a_turn() -> None:
    sending = Sending()
    first = await sending.begin()
    waits = sending.begin()
    await settle()
    sending.entra.at_hand = None
    sending.entra.answers.clear()
    first.turn.leave()
    await settle()
    assert (sending.entra.asked, sending.running) == (2, 0)

    sending.entra.answers.set()
    (await waits).turn.leave()
    assert sending.dataverse.tokens == [b"Bearer token-1", b"Bearer token-2"]
    assert sending.running == 0


async def test_a_token_that_never_lasts_ends_with_the_callers_deadline() -> None:
    sending = Sending()
    first = await sending.begin()
    sending.entra.at_hand = None
    with pytest.raises(Overloaded):
        await sending.begin(timeout_s=0.05)
    first.turn.leave()
    assert sending.running == 0

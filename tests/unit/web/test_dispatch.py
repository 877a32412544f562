from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from app.errors import BrokerError, NotGranted, Unavailable
from app.web.asgi import Answer, CallerGone, RequestHead, head_of, send_answer
from app.web.dialects import Dialects
from app.web.dispatch import ROUTE_KEY, TARGET_BYTES_MAX, Dispatcher, Route

if TYPE_CHECKING:
    from app.web.asgi import App, Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio


class Refusals:
    def __init__(self) -> None:
        self.recorded: list[tuple[bytes, str]] = []
        self.broken = False

    async def refuse(self, head: RequestHead, error: BrokerError) -> None:
        if self.broken:
            raise Unavailable("record-unavailable", "the disk is full")
        self.recorded.append((head.path[:20], error.code))


class Count:
    in_flight = 0


def named(name: bytes) -> App:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        route: Route | None = scope.get(ROUTE_KEY)
        body = name if route is None else b"%s %s %s" % (name, *map(_shown, route))
        await send_answer(send, Answer(status=200, headers=(), body=body))

    return app


def _shown(value: bytes | None) -> bytes:
    return b"-" if value is None else value


def failing(failure: Exception, *, after: tuple[Message, ...] = ()) -> App:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in after:
            await send(message)
        raise failure

    return app


def dispatcher(**apps: Any) -> Dispatcher:
    names = ("proxy", "tokens", "health", "management")
    return Dispatcher(
        **{
            "refusals": Refusals(),
            "in_flight": Count(),
            **{name: named(name.encode()) for name in names},
            **apps,
        }
    )


@pytest.mark.parametrize(
    ("target", "answered_by"),
    [
        (b"/environments/dev/api/data/v9.2/accounts", b"proxy dev v9.2/accounts"),
        (b"/environments/dev/api/data/", b"proxy dev "),
        (b"/environments/d%65v/api/data/v9.2/x?$top=1", b"proxy d%65v v9.2/x"),
        (b"/environments//api/data/v9.2/x", b"proxy  v9.2/x"),
        (b"/environments/dev/api/data", b"management"),
        (b"/environments/dev/%61pi/data/v9.2/x", b"management"),
        (b"/environments/dev/x/api/data/v9.2/x", b"management"),
        (b"/api/data/v9.2/accounts(1)", b"proxy - v9.2/accounts(1)"),
        (b"/API/data/v9.2/accounts", b"management"),
        (b"//api/data/v9.2/accounts", b"management"),
        (b"/environments/dev/token", b"tokens dev token"),
        (b"/environments/dev/token/", b"management"),
        (b"/environments/token", b"management"),
        (b"/environments/", b"management"),
        (b"/livez", b"health"),
        (b"/readyz", b"health"),
        (b"/metrics", b"health"),
        (b"/livez/", b"management"),
        (b"/msi/token", b"msi"),
        (b"/oauth2/v2.0/token", b"oauth"),
        (b"/oauth2/token", b"oauth"),
        (b"/contoso.onmicrosoft.com/oauth2/v2.0/token", b"oauth"),
        (b"/t/oauth2/token", b"oauth"),
        (b"/t%2f/oauth2/v2.0/token", b"management"),
        (b"/t/t/oauth2/v2.0/token", b"management"),
        (b"/oauth2/v2.0/token/", b"management"),
        (b"/oauth2/v2.0/token\n", b"management"),
        (b"/.well-known/openid-configuration", b"discovery"),
        (b"/t/v2.0/.well-known/openid-configuration", b"discovery"),
        (b"/t/.well-known/openid-configuration", b"management"),
        (b"/.well-known/jwks.json", b"discovery"),
        (b"/common/discovery/instance", b"discovery"),
        (b"/callers/me", b"management"),
        (b"/", b"management"),
    ],
)
async def test_an_address_has_one_app(call: Any, target: bytes, answered_by: bytes) -> None:
    dialects = Dialects(
        oauth=named(b"oauth"), managed_identity=named(b"msi"), discovery=named(b"discovery")
    )
    app = dispatcher(dialects=dialects)
    assert (await call(app, target)).body == answered_by


async def test_the_longest_target_is_still_answered(call: Any) -> None:
    target = b"/api/data/v9.2/" + b"x" * (TARGET_BYTES_MAX - 15)
    assert (await call(dispatcher(), target)).status == 200


async def test_a_target_one_byte_longer_is_refused_and_recorded(call: Any) -> None:
    refusals = Refusals()
    target = b"/api/data/v9.2/?" + b"x" * (TARGET_BYTES_MAX - 15)
    seen = await call(dispatcher(refusals=refusals), target)
    assert (seen.status, seen.json()["type"]) == (414, "/problems/target-too-long")
    assert refusals.recorded == [(b"/api/data/v9.2/", "target-too-long")]


async def test_a_refusal_that_cannot_be_recorded_is_an_outage(call: Any) -> None:
    refusals = Refusals()
    refusals.broken = True
    seen = await call(dispatcher(refusals=refusals), b"/" + b"x" * TARGET_BYTES_MAX)
    assert (seen.status, seen.headers["broker-decision"]) == (503, "error")


async def test_an_unforeseen_failure_tells_the_caller_nothing_and_the_log_no_message(
    call: Any,
) -> None:
    app = dispatcher(proxy=failing(ValueError("name eq 'hunter2'")))
    with capture_logs() as lines:
        seen = await call(app, b"/api/data/v9.2/accounts")
    assert (seen.status, seen.json()["type"]) == (500, "/problems/internal-error")
    (line,) = lines
    assert line["event"] == "request.failed"
    assert line["request_id"] == seen.json()["request_id"] == seen.headers["broker-request-id"]
    assert line["error"] == "ValueError"
    assert any("test_dispatch.py" in where for where in line["where"])
    assert "hunter2" not in repr(lines) + repr(seen)


async def test_a_failure_in_mid_answer_leaves_the_answer_incomplete(call: Any) -> None:
    begun: Message = {"type": "http.response.start", "status": 200, "headers": ()}
    part: Message = {"type": "http.response.body", "body": b"half", "more_body": True}
    for failure in (ValueError("x"), Unavailable("record-unavailable", "disk")):
        seen = await call(dispatcher(proxy=failing(failure, after=(begun, part))), b"/api/data/x")
        assert (seen.status, seen.body, seen.complete) == (200, b"half", False)


async def test_an_error_that_an_app_lets_out_is_still_its_own_problem(call: Any) -> None:
    app = dispatcher(management=failing(NotGranted("not-granted", "no")))
    assert (await call(app, b"/callers/me")).status == 403


async def test_a_caller_who_left_is_not_answered(call: Any) -> None:
    seen = await call(dispatcher(tokens=failing(CallerGone())), b"/environments/dev/token")
    assert seen.status == 0


async def test_requests_in_flight_are_counted_but_probes_are_not(call: Any) -> None:
    count = Count()
    seen: list[int] = []

    async def counting(_scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(count.in_flight)
        await send_answer(send, Answer(status=200, headers=(), body=b""))

    app = dispatcher(in_flight=count, management=counting, health=counting)
    await call(app, b"/callers/me")
    await call(app, b"/livez")
    await call(dispatcher(in_flight=count, proxy=failing(ValueError())), b"/api/data/x")
    assert (seen, count.in_flight) == ([1, 0], 0)


async def test_inner_apps_and_the_answer_share_one_request_id(call: Any) -> None:
    ids: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        ids.append(head_of(scope).request_id)
        raise NotGranted("not-granted", "no")

    seen = await call(dispatcher(management=app), b"/x")
    assert ids == [seen.headers["broker-request-id"]]


async def test_a_lifespan_goes_to_its_own_app_and_a_websocket_is_closed() -> None:
    kinds: list[str] = []
    sent: list[Message] = []

    async def lifespan(scope: Scope, _receive: Receive, _send: Send) -> None:
        kinds.append(scope["type"])

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    app = dispatcher(lifespan=lifespan)
    await app({"type": "lifespan"}, receive, send)
    await app({"type": "websocket"}, receive, send)
    assert (kinds, sent) == (["lifespan"], [{"type": "websocket.close", "code": 1008}])

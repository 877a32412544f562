from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from app.config import model
from app.errors import BrokerError, NotGranted, Unauthenticated, Unavailable
from app.identity.caller import Caller, IdentityRef
from app.web import recorded
from app.web.asgi import CallerGone, RequestHead
from app.web.recorded import REASON_KEY, Recorded

if TYPE_CHECKING:
    from app.web.asgi import App, Receive, Scope, Send

pytestmark = pytest.mark.anyio


SOMEBODY = Caller("auditor-1", IdentityRef("api_key", "k1"), model.Caller())


@dataclass
class Path:
    """Stands for the broker's path: it admits, and notes what it was told at the end."""

    unknown: BrokerError | None = None
    disk_full: bool = False
    caller: Caller = SOMEBODY
    concluded: list[tuple[int | None, str | None, int]] = field(default_factory=list)
    heads: list[RequestHead] = field(default_factory=list)

    async def admit(self, head: RequestHead) -> Path:
        self.heads.append(head)
        if self.unknown is not None:
            raise self.unknown
        return self

    async def conclude(self, *, status: int | None, reason: str | None, bytes_out: int) -> None:
        self.concluded.append((status, reason, bytes_out))
        if self.disk_full:
            raise Unavailable("record-unavailable", "the disk is full", retry_after_s=5)


def answering(status: int = 200, body: bytes = b"{}", *, reason: str | None = None) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert message["more_body"] is False
        assert (await receive())["type"] == "http.disconnect"
        if reason:
            scope[REASON_KEY] = reason
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": message["body"]})

    return app


def failing(failure: BaseException) -> App:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hunter2", "more_body": True})
        raise failure

    return app


async def test_an_answer_leaves_after_its_record(call: Any) -> None:
    path = Path()
    seen = await call(Recorded(answering(), admission=path), b"/callers/me", body=[b"ab", b"c"])
    assert (seen.status, seen.body) == (200, b"{}abc")
    assert path.concluded == [(200, None, 5)]
    assert seen.headers == {
        "content-type": "application/json",
        "broker-request-id": path.heads[0].request_id,
        "broker-decision": "allowed",
        "cache-control": "no-store",
    }


async def test_nothing_of_an_answer_leaves_that_cannot_be_recorded(call: Any) -> None:
    path = Path(disk_full=True)
    seen = await call(Recorded(answering(body=b"secretive"), admission=path), b"/callers")
    assert (seen.status, seen.json()["type"]) == (503, "/problems/record-unavailable")
    assert seen.headers["retry-after"] == "5"
    assert b"secretive" not in seen.body


async def test_an_unknown_caller_never_reaches_the_inner_app(call: Any) -> None:
    path = Path(unknown=Unauthenticated("unauthenticated", "no known credential"))
    seen = await call(Recorded(failing(AssertionError()), admission=path), b"/callers")
    assert (seen.status, seen.headers["broker-decision"]) == (401, "refused")
    assert path.concluded == []


async def test_an_inner_refusal_is_recorded_with_its_reason(call: Any) -> None:
    path = Path()
    seen = await call(Recorded(answering(403, reason="not-granted"), admission=path), b"/callers")
    assert seen.headers["broker-decision"] == "refused"
    assert path.concluded == [(403, "not-granted", 2)]


async def test_an_error_that_escapes_the_inner_app_is_recorded_and_answered(call: Any) -> None:
    path = Path()
    app = Recorded(failing(NotGranted("not-granted", "no role")), admission=path)
    seen = await call(app, b"/callers")
    assert (seen.status, seen.json()["detail"]) == (403, "no role")
    assert path.concluded[0][:2] == (403, "not-granted")


async def test_an_unforeseen_failure_is_recorded_and_tells_nothing(call: Any) -> None:
    path = Path()
    with capture_logs() as lines:
        seen = await call(Recorded(failing(KeyError("hunter2")), admission=path), b"/callers")
    assert (seen.status, seen.json()["type"]) == (500, "/problems/internal-error")
    assert path.concluded[0][:2] == (500, "internal-error")
    assert [line["event"] for line in lines] == ["request.failed"]
    assert "hunter2" not in repr(lines) + repr(seen)


async def test_an_endless_answer_is_cut_in_memory(
    call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "ANSWER_BYTES_MAX", 4)
    path = Path()
    with capture_logs():
        seen = await call(Recorded(answering(body=b"12345"), admission=path), b"/callers")
    assert (seen.status, path.concluded[0][1]) == (500, "internal-error")


async def test_a_body_over_the_limit_is_recorded_and_refused(call: Any) -> None:
    path = Path()
    headers = [(b"content-length", b"2097153")]
    seen = await call(Recorded(answering(), admission=path), b"/policy/explain", headers=headers)
    assert seen.status == 413
    assert path.concluded[0][:2] == (413, "body-too-large")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(CallerGone(), "caller-gone"), (asyncio.CancelledError(), "stopped")],
)
async def test_a_request_without_an_answer_is_on_the_record(
    call: Any, failure: BaseException, reason: str
) -> None:
    path = Path()
    with pytest.raises(type(failure)):
        await call(Recorded(failing(failure), admission=path), b"/callers")
    assert path.concluded == [(None, reason, 0)]

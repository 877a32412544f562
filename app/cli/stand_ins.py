"""What stands in for the world while policy cases are played: a Dataverse that only takes notes.

Each has the form of one of the path's collaborators; `app.path.ports` and `app.broker` say which.
"""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from app.path.judging import Judge
from app.policy.case_outcome import Sent
from app.policy.looking import look_up_target
from app.tokens.lease import Lease

if TYPE_CHECKING:
    from app.audit.record import Record
    from app.config import model
    from app.dataverse.message import Headers, UpstreamRequest
    from app.odata.links import Bases
    from app.odata.reading import Reading
    from app.path.judging import Judged
    from app.path.standing import Place, Standing
    from app.policy.case_format import Reply
    from app.policy.grants import Grant

ROW_ID: Final = "11111111-1111-1111-1111-111111111111"
ETAG: Final = 'W/"4711"'
_JSON: Final = (b"content-type", b"application/json; odata.metadata=minimal")


@dataclass(slots=True)
class Dataverse:
    """An `Upstream` that answers what a case says, or anything plausible."""

    sent: list[Sent] = field(default_factory=list)
    look_ups: frozenset[str] = frozenset()
    """The targets that the broker's own questions have, for the request under way."""
    _reply: Reply | None = None
    _hidden: bool = False

    def expect(self, reply: Reply | None, *, hidden: bool) -> None:
        self.sent.clear()
        self.look_ups = frozenset()
        self._reply, self._hidden = reply, hidden

    async def send(
        self, request: UpstreamRequest, *, timeout_s: float, fresh: bool = False
    ) -> _Answer:
        del timeout_s, fresh
        body = request.body
        if isinstance(body, AsyncIterator):
            body = b"".join([piece async for piece in body])
        target = request.target.decode("ascii")
        headers = tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in request.headers)
        sent = Sent(request.method, target, headers, body or b"", target in self.look_ups)
        self.sent.append(sent)
        if sent.look_up:
            rows = [] if self._hidden else [{"@odata.etag": ETAG}]
            return _Answer(200, (_JSON,), json.dumps({"value": rows}).encode())
        return _plausible(sent) if self._reply is None else _as_told(self._reply)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Headers
    body: bytes = b""

    async def chunks(self) -> AsyncIterator[bytes]:
        if self.body:
            yield self.body

    async def whole(self) -> bytes:
        return self.body

    async def aclose(self) -> None:
        pass


def _as_told(reply: Reply) -> _Answer:
    body = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
    headers = [(n.lower().encode(), v.encode("latin-1")) for n, v in reply.headers.items()]
    if body and all(name != b"content-type" for name, _ in headers):
        headers.append(_JSON)
    if reply.gzip:
        body = gzip.compress(body)
        headers.append((b"content-encoding", b"gzip"))
    return _Answer(reply.status, (*headers, (b"content-length", b"%d" % len(body))), body)


def _plausible(sent: Sent) -> _Answer:
    if sent.method == "GET":
        row = {"@odata.etag": ETAG, "name": "Contoso"}
        return _Answer(200, (_JSON,), json.dumps({"value": [row]}).encode())
    if sent.target.endswith("/$batch"):
        part = (
            "--answer\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
            "\r\nHTTP/1.1 204 No Content\r\nOData-Version: 4.0\r\n\r\n\r\n"
        )
        body = part * sent.body.count(b" HTTP/1.1\r\n") + "--answer--\r\n"
        kind = (b"content-type", b"multipart/mixed; boundary=answer")
        return _Answer(200, (kind,), body.encode())
    return _Answer(204, ((b"odata-version", b"4.0"),))


@dataclass(frozen=True, slots=True)
class World:
    standing: Standing
    dataverse: Dataverse

    def upstream(self, environment: str) -> Dataverse:
        del environment
        return self.dataverse

    async def refresh_schema(self, environment: str) -> bool:
        del environment
        return False


class NotingJudge(Judge):
    """Tells which questions are the broker's own; remembers nothing, so that it tells each time."""

    def __init__(self, seal_keys: Any, dataverse: Dataverse) -> None:
        super().__init__(seal_keys)
        self._dataverse = dataverse

    def judge(self, grant: Grant, place: Place, bases: Bases, reading: Reading) -> Judged:
        judged = super().judge(grant, place, bases, reading)
        self._dataverse.look_ups = frozenset(
            f"/api/data/{bases.version}/{look_up_target(look_up, grant.schema)}"
            for look_up in judged.allow.look_ups
        )
        return judged

    def remember(self, key: object, judged: Judged) -> None:
        pass


class Tokens:
    def lease_now(self, application: str, resource: str) -> Lease:
        return Lease.of(
            "rehearsal",
            expires_on=datetime.now(UTC) + timedelta(hours=1),
            resource=resource,
            application=application,
        )

    async def lease(self, application: str, resource: str) -> Lease:
        return self.lease_now(application, resource)

    def invalidate(self, lease: Lease) -> bool:
        del lease
        return False


class Forgetful:
    """A journal for which everything is durable."""

    async def append(self, record: Record) -> None:
        pass


class Unlimited:
    def within(
        self, limits: model.Limits, *, caller: str, environment: str, application: str
    ) -> contextlib.nullcontext[None]:
        del limits, caller, environment, application
        return contextlib.nullcontext()


class Patient:
    def check(self, address: str | None) -> None:
        pass

    def failed(self, address: str | None) -> None:
        pass


class Surroundings:
    def client_address(self, peer: str | None, headers: Headers) -> str | None:
        del headers
        return peer

    def trace_id(self, headers: Headers) -> None:
        del headers

    def target(self, place: Place | None, target: bytes) -> None:
        del place, target

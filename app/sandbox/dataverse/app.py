"""The emulated Dataverse as an ASGI application: token, user, limits, faults, then the service."""

from __future__ import annotations

import asyncio
import gzip
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from app.sandbox.dataverse.control import PREFIX as CONTROL
from app.sandbox.dataverse.control import control
from app.sandbox.dataverse.failures import Failed, no_segment, not_emulated
from app.sandbox.dataverse.faults import Break, Fault, Faults
from app.sandbox.dataverse.footprint import Footprint
from app.sandbox.dataverse.journal import Arrival, Journal
from app.sandbox.dataverse.messages import Answer, Request, failure_answer
from app.sandbox.dataverse.preferences import read_preferences
from app.sandbox.dataverse.protection import Limits, Protection
from app.sandbox.dataverse.rights import Principal, Rights, User
from app.sandbox.dataverse.seed import sow
from app.sandbox.dataverse.service import Service
from app.sandbox.dataverse.sowing import TENANT_ID
from app.sandbox.dataverse.store import Store
from app.sandbox.dataverse.targets import VERSIONED
from app.sandbox.dataverse.wire import Gone, read_body, send_answer, send_broken

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.sandbox.exchange import Receive, Scope, Send

GZIP_FROM_BYTES = 512
_ELSEWHERE = ("/api/search/", "/api/backgroundoperation/", "/XRMServices/", "/Image/")
"""What Dataverse's hosts serve besides the Web API (dataverse-reference 3.20, PR-48)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrived:
    """A request as it came; `lines` are its headers by name in lower case."""

    id: str
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    lines: dict[str, list[str]]
    body: bytes
    footprint: Footprint

    @classmethod
    def read(cls, scope: Scope, body: bytes) -> _Arrived:
        raw = scope.get("raw_path") or scope["path"].encode()
        headers = tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"])
        lines: dict[str, list[str]] = {}
        for name, value in headers:
            lines.setdefault(name.lower(), []).append(value)
        return cls(
            id=str(uuid4()),
            method=scope["method"],
            path=raw.decode("latin-1").partition("?")[0],
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            lines=lines,
            body=body,
            footprint=Footprint(),
        )

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


class DataverseApp:
    """One environment. `public_url` may be set once the port is known.

    `verify_token`: the token's principal when signature, audience and expiry are right, else None.
    `authority`: where the 401 sends a client for a token.
    """

    def __init__(
        self,
        *,
        verify_token: Callable[[str], Principal | None],
        public_url: str = "https://contoso.crm4.dynamics.com",
        authority: str = f"https://login.microsoftonline.com/{TENANT_ID}",
        store: Store | None = None,
        limits: Limits | None = None,
        faults: Faults | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store if store is not None else Store()
        if self.store.is_empty:
            sow(self.store)
        self.public_url = public_url.rstrip("/")
        self.authority = authority.rstrip("/")
        self.faults = faults if faults is not None else Faults()
        self.journal = Journal()
        self.protection = Protection(limits or Limits(), monotonic)
        self._verify = verify_token
        self._clock = clock
        self._monotonic = monotonic
        self._rights = Rights(self.store)
        self._service = Service(self.store, clock, self._rights.acting_as)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _lifespan(scope, receive, send)
            return
        try:
            body = await read_body(receive)
        except Gone:
            return
        arrived = _Arrived.read(scope, body)
        if arrived.path.startswith(CONTROL):
            await send_answer(send, control(self, arrived.method, arrived.path, body))
            return
        self.journal.add(
            Arrival(
                at=self._clock(),
                service_request_id=arrived.id,
                method=arrived.method,
                target=arrived.target,
                headers=arrived.headers,
                body=body,
                footprint=arrived.footprint,
            )
        )
        fault = self.faults.meet(arrived.method, arrived.target)
        answer = await self._serve(arrived, fault)
        if fault is not None and fault.breaks is not None:
            await send_broken(scope, receive, send, answer, fault.breaks)
        else:
            await send_answer(send, answer)

    async def _serve(self, arrived: _Arrived, fault: Fault | None) -> Answer:
        started = self._monotonic()
        user: User | None = None
        entered = False
        try:
            user = self._user(arrived)
            self.protection.enter(user.id)
            entered = True
            if fault is not None and fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            answer = self._answer(arrived, user, fault)
        except Failed as failed:
            answer = fault.answer if fault and fault.answer else _refusal(failed)
        finally:
            if entered and user is not None:
                self.protection.leave(user.id, self._monotonic() - started)
        return self._dressed(answer, arrived, user)

    def _answer(self, arrived: _Arrived, user: User, fault: Fault | None) -> Answer:
        if fault is not None and fault.before:
            if fault.answer is not None:
                return fault.answer
            if fault.breaks is Break.RESET:
                return Answer(status=503)
        found = VERSIONED.match(arrived.path)
        if found is None:
            if arrived.path.startswith(_ELSEWHERE):
                raise not_emulated(f"{arrived.path}: of the environment's host only /api/data")
            raise no_segment(arrived.path.strip("/").split("/")[0])
        request = Request(
            method=arrived.method,
            path=found[2] or "",
            query=arrived.query,
            headers=arrived.lines,
            body=arrived.body,
            base=f"{self.public_url}/api/data/{found[1]}",
            user=user,
            preferences=read_preferences(arrived.lines.get("prefer", ())),
        )
        done = self._service.handle(request)
        return fault.answer if fault is not None and fault.answer is not None else done

    def _user(self, arrived: _Arrived) -> User:
        """Who acts: the application user, or the one that he impersonates."""
        lines = arrived.lines
        scheme, _, token = (lines.get("authorization") or [""])[0].partition(" ")
        principal = self._verify(token.strip()) if scheme.lower() == "bearer" else None
        if principal is None:
            challenge = (
                f"Bearer authorization_uri={self.authority}/oauth2/authorize, "
                f"resource_id={self.public_url}/"
            )
            raise Failed(401, "", "", headers=(("WWW-Authenticate", challenge),))
        user = self._rights.user_of(principal.application_id)
        return self._rights.acting_as(replace(user, footprint=arrived.footprint), lines)

    def _dressed(self, answer: Answer, arrived: _Arrived, user: User | None) -> Answer:
        """The headers that every answer has, and compression where it is asked for."""
        more: list[tuple[str, str]] = [
            ("REQ_ID", str(uuid4())),
            ("x-ms-service-request-id", arrived.id),
        ]
        if user is not None:
            more += self.protection.headers(user.id)
        body = answer.body
        accepts = ",".join(arrived.lines.get("accept-encoding", ()))
        compressed = any(k.lower() == "content-encoding" for k, _ in answer.headers)
        if "gzip" in accepts and len(body) >= GZIP_FROM_BYTES and not compressed:
            body = gzip.compress(body, compresslevel=1, mtime=0)
            more += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
        return Answer(status=answer.status, headers=(*answer.headers, *more), body=body)


def _refusal(failed: Failed) -> Answer:
    """A 401 has no body and no OData headers: it comes from in front of the Web API."""
    if failed.status == 401:
        return Answer(status=401, headers=failed.headers)
    return failure_answer(failed)


async def _lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

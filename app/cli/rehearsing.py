"""The broker as it is, with a Dataverse that only notes what would have been sent to it.

Policy cases run through everything that a request goes through, from the HTTP parser on, so that
their verdict is the server's. No socket, no token, no disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import httptools

from app.broker import Broker
from app.cli.outcome import CouldNot
from app.config.model import ApiKey, ApiKeyIdentity
from app.errors import Unreadable
from app.identity.authenticator import Authenticator
from app.identity.broker_tokens import BrokerTokens
from app.identity.keys import digest
from app.limits.scheduler import Scheduler
from app.path.carrying import Carrier
from app.path.giving import Giver
from app.path.judging import Judge
from app.path.keyring import new_key, read_keyring
from app.path.recording import Recording
from app.path.sending import Sender
from app.path.standing import stand
from app.policy.case_outcome import Seen, Sent
from app.policy.looking import look_up_target
from app.telemetry.metrics import Metrics
from app.tokens.lease import Lease, fingerprint_of
from app.web.asgi import head_of, send_answer
from app.web.dispatch import Dispatcher
from app.web.problems import problem, status_of
from app.web.proxy import Proxy
from app.web.wired import Door

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.audit.record import Record
    from app.config import model
    from app.config.loaded import Loaded
    from app.dataverse.message import Headers, UpstreamRequest
    from app.odata.links import Bases
    from app.odata.reading import Reading
    from app.path.judging import Judged
    from app.path.standing import Place, Standing
    from app.policy.case_format import Case, Reply
    from app.policy.grants import Grant
    from app.web.asgi import App, Message, Receive, Scope, Send

ROW_ID: Final = "11111111-1111-1111-1111-111111111111"
ETAG: Final = 'W/"4711"'
_NOBODY: Final = f"dvb_nobody_{'0' * 64}"
_JSON: Final = (b"content-type", b"application/json; odata.metadata=minimal")


class Rehearsal:
    """Cases against one standing; each caller gets a key that exists here only."""

    def __init__(self, standing: Standing) -> None:
        callers = standing.configuration.callers
        self._keys = {name: f"dvb_rehearsal_{digest(name)}" for name in callers}
        schemas = {n: p.schema for n, p in standing.places.items() if p.schema is not None}
        self._standing = stand(_with_keys(standing.loaded, self._keys), schemas)
        self._dataverse = _Dataverse()
        self._app = _assembled(self._standing, self._dataverse)

    async def play(self, case: Case) -> Seen:
        """Send the case's request. Raises `CouldNot` for a caller that there is not."""
        environment = self._environment(case)
        case = self.filled(case)
        self._dataverse.expect(case.response.upstream_reply, hidden=case.precheck == "hidden")
        answer = await _ask(self._app, self._request(case, environment))
        return replace(answer, sent=tuple(self._dataverse.sent))

    def filled(self, case: Case) -> Case:
        """With its placeholders replaced by what they stand for here."""
        return case.filled(self._placeholders(case, self._environment(case)))

    def _environment(self, case: Case) -> str:
        caller = self._standing.configuration.callers.get(case.caller)
        if caller is None:
            raise CouldNot("no-such-caller", f"{case.id}: no caller {case.caller} is configured")
        if caller.default_environment is not None:
            return caller.default_environment
        if not caller.grants:
            raise CouldNot("no-grant", f"{case.id}: {case.caller} has no grant, so no environment")
        return caller.grants[0].environment

    def _placeholders(self, case: Case, environment: str) -> Mapping[str, str]:
        public = self._standing.configuration.public_url
        upstream = self._standing.configuration.environments[environment].url
        return {
            "PUBLIC": public,
            "HOST": public.partition("://")[2],
            "BASE": f"{public}/environments/{environment}",
            "UP": upstream,
            "UP_ESCAPED": upstream.replace("/", "\\/"),
            "KEY": f"Bearer {self._keys[case.caller]}",
        }

    def _request(self, case: Case, environment: str) -> bytes:
        """Byte for byte as the case has it."""
        target = case.target if case.verbatim else f"/environments/{environment}{case.target}"
        pairs = [*case.header_pairs(), *self._proof(case)]
        body = case.content()
        names = {name.lower() for name, _ in pairs}
        if body is not None and not names & {"content-length", "transfer-encoding"}:
            pairs.append(("Content-Length", str(len(body))))
        host = self._standing.configuration.public_url.partition("://")[2].partition("/")[0]
        lines = [f"{case.method} {target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in pairs]
        return "\r\n".join([*lines, "", ""]).encode("utf-8") + (body or b"")

    def _proof(self, case: Case) -> list[tuple[str, str]]:
        key = self._keys[case.caller]
        match case.auth:
            case "none":
                return []
            case "wrong":
                return [("Authorization", f"Bearer {_NOBODY}")]
            case "x-api-key":
                return [("X-API-Key", key)]
        own = any(name.lower() == "authorization" for name, _ in case.header_pairs())
        return [] if own else [("Authorization", f"Bearer {key}")]


def _with_keys(loaded: Loaded, keys: Mapping[str, str]) -> Loaded:
    """Known by these keys only: what else proves a caller may ask the network."""
    configuration = loaded.configuration
    callers = {
        name: caller.model_copy(
            update={"identities": (ApiKeyIdentity(api_key=ApiKey(sha256=digest(keys[name]))),)}
        )
        for name, caller in configuration.callers.items()
    }
    return replace(
        loaded, configuration=configuration.model_copy(update={"callers": callers, "issuers": {}})
    )


def _assembled(standing: Standing, dataverse: _Dataverse) -> App:
    keyring = read_keyring(new_key())
    metrics = Metrics(version="rehearsal")
    tokens = _Tokens()
    authenticator = Authenticator()
    authenticator.reload(standing.loaded)
    broker = Broker(
        world=_World(standing, dataverse),
        identity=authenticator,
        judge=_NotingJudge(keyring.seals, dataverse),
        carrier=Carrier(Sender(tokens, Scheduler(), metrics)),
        giver=Giver(
            tokens,
            BrokerTokens(keyring.broker_tokens()),
            partial(fingerprint_of, key=keyring.fingerprints()),
        ),
        limits=_Unlimited(),
        strangers=_Patient(),
        recording=Recording(_Forgetful(), metrics, status_of),
        surroundings=_Surroundings(),
    )
    door = Door(broker)
    return Dispatcher(
        proxy=Proxy(broker, refusals=door),
        tokens=_elsewhere,
        health=_elsewhere,
        management=_elsewhere,
        refusals=door,
        in_flight=metrics,
    )


# ------------------------------------------------------------------- in place of the world


@dataclass(slots=True)
class _Dataverse:
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

    def arrived(self) -> bytes:
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
class _World:
    standing: Standing
    dataverse: _Dataverse

    def upstream(self, environment: str) -> _Dataverse:
        del environment
        return self.dataverse

    async def refresh_schema(self, environment: str) -> bool:
        del environment
        return False


class _NotingJudge(Judge):
    """Tells which questions are the broker's own; remembers nothing, so that it tells each time."""

    def __init__(self, seal_keys: Any, dataverse: _Dataverse) -> None:
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


class _Tokens:
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


class _Forgetful:
    """A journal for which everything is durable."""

    async def append(self, record: Record) -> None:
        pass


class _Unlimited:
    def within(
        self, limits: model.Limits, *, caller: str, environment: str, application: str
    ) -> contextlib.nullcontext[None]:
        del limits, caller, environment, application
        return contextlib.nullcontext()


class _Patient:
    def check(self, address: str | None) -> None:
        pass

    def failed(self, address: str | None) -> None:
        pass


class _Surroundings:
    def client_address(self, peer: str | None, headers: Headers) -> str | None:
        del headers
        return peer

    def trace_id(self, headers: Headers) -> None:
        del headers

    def target(self, place: Place | None, target: bytes) -> None:
        del place, target


async def _elsewhere(scope: Scope, _receive: Receive, send: Send) -> None:
    """What is no address of the Web API has no policy."""
    error = Unreadable("no-such-address", "policy cases are requests to the Web API")
    await send_answer(send, problem(error, request_id=head_of(scope).request_id))


# -------------------------------------------------------------------------- the HTTP server


@dataclass(slots=True)
class _Parsed:
    """What the server's own parser makes of the bytes."""

    url: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body


async def _ask(app: App, request: bytes) -> Seen:
    parsed = _Parsed()
    parser = httptools.HttpRequestParser(parsed)
    try:
        parser.feed_data(request)
        url = httptools.parse_url(parsed.url)
        path = url.path.decode("ascii")
    except (httptools.HttpParserError, UnicodeDecodeError):
        # The server answers such a request itself, before there is an application.
        return Seen(400, (), b"Invalid HTTP request received.")
    scope = {
        "type": "http",
        "method": parser.get_method().decode("ascii"),
        "path": path,
        "raw_path": url.path,
        "query_string": url.query or b"",
        "headers": parsed.headers,
        "client": ("127.0.0.1", 0),
        "scheme": "https",
    }
    body, answer = [parsed.body], _Collected()

    async def receive() -> Message:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await asyncio.Event().wait()  # the caller stays
        raise AssertionError

    await app(scope, receive, answer)
    return Seen(answer.status, tuple(answer.headers), answer.body)


@dataclass(slots=True)
class _Collected:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers += [
                (n.decode("latin-1"), v.decode("latin-1")) for n, v in message["headers"]
            ]
        else:
            self.body += message.get("body", b"")

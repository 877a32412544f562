"""A policy case read, decided and written without anything that listens."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, unquote_to_bytes

import yaml

from app.config.model import Configuration
from app.errors import BrokerError
from app.odata.links import Bases
from app.odata.read import Bounds, RequestReader
from app.odata.write import Outgoing, Sending, write
from app.policy.compiling import PAGE_SIZE_DEFAULT, compile_grant
from app.policy.decide import decide
from app.policy.decision import Allow, Refuse
from app.policy.looking import found, look_up_target
from app.schema.csdl import read_csdl
from app.web.problems import status_of

if TYPE_CHECKING:
    from app.odata.read import SealCheck
    from app.odata.reading import BodyMode, Reading
    from app.policy.decision import Decision
    from app.policy.grants import Grant
    from app.schema.model import Schema

CASES = Path(__file__).parents[2] / "policy_cases"
PUBLIC = "http://127.0.0.1:8080"
ETAG = 'W/"4711"'

Case = dict[str, Any]
Pairs = list[tuple[str, str]]


@cache
def schema() -> Schema:
    return read_csdl((CASES / "metadata.xml").read_bytes())


@cache
def configuration() -> Configuration:
    return Configuration.model_validate(yaml.safe_load((CASES / "broker.yaml").read_text()))


@cache
def grant_of(caller: str) -> Grant:
    given = configuration().callers[caller].grants[0]
    compiled = compile_grant(given, schema(), caller=caller, index=0, version="1")
    assert not compiled.problems
    return compiled.grant


def bases_of(grant: Grant) -> Bases:
    url = configuration().environments[grant.environment].url
    return Bases(f"{PUBLIC}/environments/{grant.environment}", PUBLIC, url, "v9.2")


def reader_for(grant: Grant, check_seal: SealCheck | None = None) -> RequestReader:
    limits = grant.limits
    return RequestReader(
        grant.schema,
        bases_of(grant),
        bounds=Bounds(
            expand_depth=limits.expand_depth,
            page_size=limits.page_size or PAGE_SIZE_DEFAULT,
            batch_parts=limits.batch_parts,
            body_bytes=limits.body_bytes,
        ),
        check_seal=check_seal,
    )


def sending_for(grant: Grant, allow: Allow) -> Sending:
    return Sending(
        bases_of(grant),
        mscrm=grant.headers,
        page_size=grant.limits.page_size,
        adds_page_size=grant.enforce,
        caller_object_id=allow.caller_object_id,
    )


@dataclass(slots=True)
class Request:
    """One request below the service root."""

    method: str
    target: str
    headers: Pairs = field(default_factory=list)
    body: bytes | None = None

    def pairs(self) -> tuple[tuple[bytes, bytes], ...]:
        return tuple((n.lower().encode(), v.encode("latin-1")) for n, v in self.headers)


@dataclass(slots=True)
class Tried:
    """What became of a request. `sent` are the look-ups and then the request itself."""

    status: int = 200
    reading: Reading | None = None
    decision: Decision | None = None
    error: BrokerError | None = None
    sent: list[Outgoing] = field(default_factory=list)
    mode: BodyMode | None = None

    @property
    def allowed(self) -> bool:
        return self.error is None and isinstance(self.decision, Allow)

    @property
    def refused(self) -> bool:
        return isinstance(self.decision, Refuse)

    @property
    def last(self) -> Outgoing:
        return self.sent[-1]

    @property
    def detail(self) -> str:
        if self.error is not None:
            return f"{self.error.code}: {self.error.detail}"
        return self.decision.detail if isinstance(self.decision, Refuse) else ""


def attempt(
    grant: Grant,
    request: Request,
    *,
    row: str | None = ETAG,
    check_seal: SealCheck | None = None,
) -> Tried:
    """`row` is the ETag with which every look-up is answered; None: there is no such row."""
    tried = Tried()
    try:
        reader = reader_for(grant, check_seal)
        head = reader.head(request.method, request.target.encode("utf-8"), request.pairs())
        tried.mode = head.body_mode
        body = None if head.body_mode == "stream" else request.body
        tried.reading = head.finish(body)
        tried.decision = decide(grant, tried.reading)
        if isinstance(tried.decision, Refuse):
            tried.status = 403
            return tried
        etags: dict[Any, str | None] = {}
        for look_up in tried.decision.look_ups:
            target = f"/api/data/v9.2/{look_up_target(look_up, grant.schema)}"
            tried.sent.append(Outgoing("GET", target, ()))
            etags[look_up] = row
        reading = found(tried.decision.reading, etags)
        tried.sent.append(write(reading, sending_for(grant, tried.decision)))
    except BrokerError as error:
        tried.error = error
        tried.status = status_of(error)
    return tried


# ------------------------------------------------------------------------------- cases


def filled(value: Any, grant: Grant) -> Any:
    """A case, or a part of it, with its placeholders replaced."""
    if isinstance(value, dict):
        return {filled(k, grant): filled(v, grant) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v, grant) for v in value]
    if not isinstance(value, str):
        return value
    bases = bases_of(grant)
    for name, text in (
        ("PUBLIC", PUBLIC),
        ("HOST", PUBLIC.partition("://")[2]),
        ("BASE", bases.public),
        ("UP_ESCAPED", bases.environment.replace("/", "\\/")),
        ("UP", bases.environment),
    ):
        value = value.replace("{" + name + "}", text)
    return value


def cases(name: str) -> list[Case]:
    lines = (CASES / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def is_pure(case: Case) -> bool:
    """Whether the case is about the request and the policy, and not about whoever stands around."""
    if case.get("auth") in {"none", "wrong"}:
        return False
    if case.get("verbatim"):
        return False
    return bool(case["target"].startswith("/api/data/v9.2/"))


def request_of(case: Case) -> Request:
    headers = case.get("headers") or {}
    body = case.get("body")
    content = None if body is None else str(body).encode("utf-8")
    if case.get("body_b64") is not None:
        content = base64.b64decode(case["body_b64"])
    return Request(
        case["method"],
        case["target"].removeprefix("/api/data/v9.2/"),
        [(n, v) for n, v in (headers.items() if isinstance(headers, dict) else headers)],
        content,
    )


def decoded(target: str) -> str:
    """Decoded once; `+` in the query is a space."""
    path, mark, query = target.partition("?")
    return unquote_plus(path.replace("+", "%2B")) + mark + unquote_plus(query)


def bodies(outgoing: Outgoing) -> tuple[str, str]:
    body = outgoing.body or b""
    return body.decode("latin-1"), unquote_to_bytes(body).decode("utf-8", "replace")

"""What the sandbox does with what the broker would send, beside what the grant allows.

Nothing listens: a request is read, judged and written as the broker does it, and given to the
emulated Dataverse by a function call. What that touched (its own reader's word) must lie inside
the grant.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from app.config.model import Environment, Operation
from app.config.model import Grant as GrantRule
from app.errors import BrokerError, UpstreamFailed
from app.odata.access import ALL
from app.odata.bulk import BULK
from app.odata.links import Bases
from app.odata.reading import BodyMode
from app.odata.seals import SealKey
from app.path.judging import Judge, Judged, Refused, request_key
from app.path.standing import Place, known_names
from app.policy.compiling import compile_grant
from app.policy.looking import found, look_up_target, read_look_up
from app.sandbox.dataverse.app import DataverseApp
from app.sandbox.dataverse.footprint import CALL, METADATA, UNASKED, Touch
from app.sandbox.dataverse.rights import add_application_user
from app.schema.csdl import read_csdl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from app.odata.write import Outgoing
    from app.policy.grants import Grant
    from app.sandbox.dataverse.schema import Table
    from app.schema.model import Schema

ENVIRONMENT = "https://contoso.crm4.dynamics.com"
PUBLIC = "https://broker.example"
BASES = Bases(f"{PUBLIC}/environments/prod", PUBLIC, ENVIRONMENT, "v9.2")
KEYS = (SealKey("k1", b"s" * 32),)
APPLICATION_ID = "5c2e9d10-0000-4000-8000-000000000001"
ADMINISTRATOR_OBJECT = "0b5d8f3e-2c41-4a1e-9b5c-6a7e1f0d2c31"

_VALUE_OF_A_LINK = re.compile(r'valueof="\w+\.')

Pairs = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class _Application:
    application_id: str = APPLICATION_ID
    claims: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    headers: Pairs
    body: bytes


class Dataverse:
    """The emulated Dataverse, its application user a system administrator: it refuses nothing
    that the broker lets through.
    """

    def __init__(self) -> None:
        self.app = DataverseApp(verify_token=lambda _: _Application(), public_url=ENVIRONMENT)
        add_application_user(self.app.store, application_id=APPLICATION_ID, name="broker")
        self.schema = self._schema()

    def _schema(self) -> Schema:
        answer = self.carry("GET", "/api/data/v9.2/$metadata", ())
        ids = {t.metadata_id: t.logical for t in self.app.store.schema}
        return read_csdl(answer.body).with_metadata_ids(ids)

    def carry(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes = b""
    ) -> Answered:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "headers": [
                (b"authorization", b"Bearer t"),
                *((n.lower().encode("ascii"), v.encode("latin-1")) for n, v in headers),
            ],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        running = self.app(scope, receive, send)
        # It waits for nothing but what is here already.
        with contextlib.suppress(StopIteration):
            running.send(None)
            raise AssertionError("the emulated Dataverse waits")
        content = b"".join(m.get("body", b"") for m in sent[1:])
        return Answered(sent[0]["status"], tuple(sent[0]["headers"]), content)

    def ids(self, table: Table) -> list[str]:
        """Of all rows that are there."""
        found = self.app.store.all(f"SELECT {table.pk} FROM {table.logical}")  # noqa: S608
        return [row_id for (row_id,) in found]

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """Whatever happens inside has not happened afterwards."""
        with contextlib.suppress(_Undone), self.app.store.transaction():
            yield
            raise _Undone


class _Undone(Exception):
    pass


@cache
def dataverse() -> Dataverse:
    return Dataverse()


@cache
def place() -> Place:
    schema = dataverse().schema
    return Place("prod", Environment(url=ENVIRONMENT), schema, known_names(schema))


def grant_of(rule: dict[str, Any], *, version: str = "1", schema: Schema | None = None) -> Grant:
    """A grant as the configuration writes it."""
    made = {"environment": "prod", "application": "crm-app", **rule}
    compiled = compile_grant(
        GrantRule.model_validate(made),
        schema or dataverse().schema,
        caller="someone",
        index=0,
        version=version,
    )
    assert not compiled.problems, compiled.problems
    return compiled.grant


@dataclass(frozen=True, slots=True)
class Asking:
    """A request below the service root, as a caller writes it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    @property
    def pairs(self) -> Pairs:
        return tuple((n.lower().encode("ascii"), v.encode("latin-1")) for n, v in self.headers)


@dataclass(slots=True)
class Outcome:
    """What became of it. `touched` is what the sandbox did, its answers to look-ups aside."""

    verdict: str
    """`allowed`, or the code of the refusal."""
    detail: str = ""
    judged: Judged | None = None
    outgoing: Outgoing | None = None
    answer: Answered | None = None
    touched: tuple[Touch, ...] = ()
    arrivals: int = 0
    error: BrokerError | None = None

    @property
    def allowed(self) -> bool:
        return self.verdict == "allowed"

    @property
    def refused(self) -> bool:
        """By policy, and not because it could not be read."""
        return isinstance(self.error, Refused)


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    headers: Pairs


@dataclass(frozen=True, slots=True)
class _Request:
    head: _Head
    target: bytes


def judge_once(judge: Judge, grant: Grant, asking: Asking) -> Judged:
    """As `Broker` does it, its memory included. Raises `BrokerError`, and nothing else."""
    request = _Request(_Head(asking.method, asking.pairs), asking.target.encode("latin-1"))
    key: object = None
    if not asking.body:
        # One grant is one standing here.
        key = request_key(hash(grant.version), "someone", "prod", "v9.2", request, rooted=False)
        known = judge.remembered(key)
        if known is not None:
            return known
    head = judge.head(grant, BASES, asking.method, request.target, asking.pairs)
    body = None if head.body_mode is BodyMode.STREAM else asking.body
    judged = judge.judge(grant, place(), BASES, head.finish(body))
    if key is not None:
        judge.remember(key, judged)
    return judged


def ask(
    asking: Asking,
    grant: Grant,
    *,
    judge: Judge | None = None,
    world: Dataverse | None = None,
) -> Outcome:
    """Read, judge, look up, write, and let the sandbox do it; then undo it."""
    try:
        judged = judge_once(judge or Judge(lambda: KEYS), grant, asking)
    except BrokerError as error:
        return Outcome(error.code, error.detail, error=error)
    sandbox = world or dataverse()
    journal = sandbox.app.journal
    journal.clear()
    outcome = Outcome("allowed", judged=judged, outgoing=judged.outgoing)
    with sandbox.undone():
        try:
            outcome.outgoing = _looked_up(sandbox, judged)
        except BrokerError as error:
            outcome.verdict, outcome.detail, outcome.error = error.code, error.detail, error
        else:
            sent = outcome.outgoing
            body = asking.body if sent.streams else sent.body
            outcome.answer = sandbox.carry(sent.method, sent.target, sent.headers, body or b"")
    if outcome.answer is not None:
        outcome.touched = tuple(journal.last.footprint)
    outcome.arrivals = len(journal)
    return outcome


def _looked_up(sandbox: Dataverse, judged: Judged) -> Outgoing:
    if not judged.allow.look_ups:
        return judged.outgoing
    etags = {}
    for look_up in judged.allow.look_ups:
        target = f"/api/data/{BASES.version}/{look_up_target(look_up, judged.grant.schema)}"
        answer = sandbox.carry("GET", target, (("Accept", "application/json"),))
        if answer.status != 200:
            raise UpstreamFailed("upstream-malformed", "a look-up was not answered with rows")
        etags[look_up] = read_look_up(answer.body)
    return judged.sent_as(found(judged.allow.reading, etags))


# ------------------------------------------------------------------------ what was granted

_PRIVILEGES = {
    "Read": Operation.READ,
    "Create": Operation.CREATE,
    "Write": Operation.UPDATE,
    "Delete": Operation.DELETE,
    "AppendTo": Operation.APPEND_TO,
    "Assign": Operation.ASSIGN,
}
_IMPLIED = frozenset({"Append", UNASKED})
"""Append goes with writing a lookup column; what comes unasked stands beside what was granted."""


def beyond(outcome: Outcome, grant: Grant) -> list[Touch]:
    """What was touched and is not granted."""
    if not grant.enforce or calls(outcome) or _compares_across_links(outcome):
        return []
    ordered = outcome.outgoing is not None and (
        "orderby=" in outcome.outgoing.target or b"orderby=" in (outcome.outgoing.body or b"")
    )
    return [
        t
        for t in outcome.touched
        if not _covers(grant, t)
        and not (ordered and _names_a_lookup(t))
        and not (t.operation == "AppendTo" and _makes(grant, outcome, t.table))
    ]


def _compares_across_links(outcome: Outcome) -> bool:
    """The emulator takes `valueof="alias.column"` for a column of the condition's own table."""
    sent = outcome.outgoing
    if sent is None:
        return False
    return _VALUE_OF_A_LINK.search(unquote(sent.target + str(sent.body))) is not None


def calls(outcome: Outcome) -> bool:
    """Whether a function or action granted by name was called: what it reaches nobody sees."""
    read = BULK | {"RetrieveTotalRecordCount"}
    return any(t.operation == CALL and t.table not in read for t in outcome.touched)


def _names_a_lookup(touch: Touch) -> bool:
    """Rows sorted by a lookup are sorted by the far rows' names, which come with its column."""
    return touch.operation == "Read" and not touch.column


def _makes(grant: Grant, outcome: Outcome, table: str) -> bool:
    """Creating a row stands for append_to on it."""
    made = Touch("Create", table)
    return made in outcome.touched and _covers(grant, made)


def _covers(grant: Grant, touch: Touch) -> bool:
    if touch.operation in _IMPLIED:
        return True
    if touch.operation == METADATA:
        return grant.metadata == "all" or (
            grant.metadata == "granted" and touch.column == "" and touch.table != "$metadata"
        )
    if touch.operation == CALL:
        calls = {name for name, _ in grant.functions | grant.actions}
        return touch.table in calls | BULK or touch.table == "RetrieveTotalRecordCount"
    table = grant.schema.tables[touch.table]
    if table.abstract:
        derived = [n for n in grant.schema.derived[table.name] if n != table.name]
        return all(_covers(grant, Touch(touch.operation, n, touch.column)) for n in derived)
    rights = None if table.entity_set is None else grant.rights(table.entity_set)
    operation = _PRIVILEGES[touch.operation]
    if rights is None or operation not in rights.operations:
        return False
    if not touch.column or touch.column in table.key_columns:
        return True
    if operation is Operation.READ:
        return _within(touch.column, rights.readable) or _filters_by(rights, touch.column)
    if operation is Operation.CREATE:
        # The broker itself sets what a row filter asks of a new row.
        return _within(touch.column, rights.writable) or _filters_by(rights, touch.column)
    return _within(touch.column, rights.writable)


def _within(column: str, columns: Any) -> bool:
    return columns is ALL or column in columns


def _filters_by(rights: Any, column: str) -> bool:
    return rights.row_filter is not None and column in rights.row_filter.columns


def shown(outcome: Outcome) -> str:
    """For whoever reads a failing example."""
    sent = outcome.outgoing
    return json.dumps(
        {
            "verdict": outcome.verdict,
            "detail": outcome.detail,
            "sent": None if sent is None else f"{sent.method} {sent.target}",
            "body": None if sent is None or sent.body is None else sent.body.decode("latin-1"),
            "status": None if outcome.answer is None else outcome.answer.status,
            "answer": None
            if outcome.answer is None
            else outcome.answer.body[:600].decode("latin-1"),
            "touched": [f"{t.operation} {t.table} {t.column}" for t in outcome.touched],
        },
        indent=1,
    )

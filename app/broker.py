"""The path of a request, a line a stage. Read this first.

    caller ─► web ─► identity ─► odata ─► policy ─► tokens ─► dataverse ─► web ─► caller
              │       who?        what?    may they?  with what?  send, stream    │
              └──────────────────────────── audit ────────────────────────────────┘

Two verbs: `forward` carries a Web API call, `issue` gives out a token; `admit` lets a request
to the management addresses in. None knows HTTP's server side: `web` hands in what arrived.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from app.audit.target import recorded_address
from app.identity.refusal import Unrecognised
from app.odata.reading import BodyMode
from app.path.aside import aside
from app.path.delivering import deliver
from app.path.errand import Errand
from app.path.exchange import Exchange, counted
from app.path.granting import (
    application_header,
    chosen,
    default_environment,
    grants_of,
    must_serve,
    place_of,
)
from app.path.issuing import order, wanted_by
from app.path.judging import Judge, Judged, Refused, request_key
from app.path.recording import HUNG_UP, CallerLeft, Recording
from app.path.wishes import read_wishes

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from app.audit.record import Action
    from app.config import model
    from app.errors import BrokerError
    from app.identity.caller import Caller
    from app.odata.links import Bases
    from app.path.carrying import Carrier
    from app.path.delivering import Reply
    from app.path.giving import Given, Giver
    from app.path.issuing import Order
    from app.path.ports import (
        Credential,
        Head,
        Headers,
        Identity,
        Incoming,
        Limiter,
        Strangers,
        Surroundings,
        World,
    )
    from app.path.standing import Place, Standing
    from app.policy.grants import Grant

log = structlog.get_logger()

FILE_BYTES_MAX = 128 * 1024 * 1024
"""A file column's own limit (dataverse-reference 3.14)."""


@dataclass(frozen=True, slots=True)
class Broker:
    """The path, with all that it walks on."""

    world: World
    identity: Identity
    judge: Judge
    carrier: Carrier
    giver: Giver
    limits: Limiter
    strangers: Strangers
    recording: Recording
    surroundings: Surroundings

    async def forward(self, incoming: Incoming, reply: Reply) -> None:
        """Carry a Web API call.

        Raises `BrokerError`, already on record, while no answer has begun; `AnswerCut` and
        `CallerLeft` when there is no answering any more.
        """
        exchange = self.begin(incoming.head, "proxy")
        try:
            caller = await self._identify(incoming.head, exchange)
            judged = await self._decide(caller, incoming, exchange)
            errand = self._errand(incoming, judged, exchange)
            if judged.writes:
                await self.recording.intend(exchange)
            async with self._limited(caller, judged.grant):
                carried = await self.carrier.carry(errand)
                await deliver(carried, exchange, reply, self.recording)
        except BaseException as error:
            await self._ended(exchange, error)
            raise

    async def issue(
        self,
        head: Head,
        *,
        environment: str | None,
        resource: str | None,
        credential: Credential | None = None,
    ) -> Given:
        """Give out a token: the environment's raw one where that is granted, or the broker's own.

        Without `credential` the caller proves itself by its headers. The record is durable.
        """
        exchange = self.begin(head, "token")
        try:
            caller = await self._identify(head, exchange, credential)
            standing = self.world.standing
            order = self._order(
                caller, standing, head, exchange, environment=environment, resource=resource
            )
            async with self._limited(caller, order.grant):
                given = await self.giver.give(order, standing, exchange)
            await self.recording.conclude(exchange, 200)
        except BaseException as error:
            await self._ended(exchange, error)
            raise
        return given

    async def admit(self, head: Head) -> Exchange:
        """Let a known caller's management request in. Its record is the caller's to conclude."""
        exchange = self.begin(head, "admin")
        try:
            await self._identify(head, exchange)
        except BaseException as error:
            await self._ended(exchange, error)
            raise
        return exchange

    async def refuse(self, head: Head, error: BrokerError, action: Action = "proxy") -> None:
        """Put on record what was refused before it came here."""
        await self.recording.fail(self.begin(head, action), error)

    # -------------------------------------------------------------- stages

    def begin(self, head: Head, action: Action) -> Exchange:
        now = datetime.now(UTC)
        return Exchange(
            id=head.request_id,
            request_id=head.request_id,
            action=action,
            method=head.method,
            client_address=self.surroundings.client_address(head.peer, head.headers),
            time=now,
            target=None if action == "proxy" else self._address(head),
            trace_id=self.surroundings.trace_id(head.headers),
        )

    def _address(self, head: Head) -> str:
        configuration = self.world.standing.configuration
        return recorded_address(
            head.target.decode("latin-1"),
            lambda name: name in configuration.applications or name in configuration.environments,
        )

    async def _ended(self, exchange: Exchange, error: BaseException) -> None:
        """However it ends, it is on record. Raises `CallerLeft` where that is why it ended."""
        if not isinstance(error, asyncio.CancelledError):
            await self.recording.fail(exchange, error)
            return
        if error.args != (HUNG_UP,):
            self.recording.stopped(exchange)
            return
        task = asyncio.current_task()
        if task is not None:
            # The cancellation has been answered: what follows may wait again.
            task.uncancel()
        left = CallerLeft()
        await self.recording.fail(exchange, left)
        raise left from None

    async def _identify(
        self, head: Head, exchange: Exchange, credential: Credential | None = None
    ) -> Caller:
        """Who? Nothing in a refusal says whether such a caller exists."""
        try:
            if credential is None:
                caller = self.identity.authenticate_now(head.headers)
                if caller is None:
                    caller = await self.identity.authenticate(head.headers, head.peer)
            else:
                caller = self.identity.recognise_now(credential)
                if caller is None:
                    caller = await self.identity.recognise(credential)
        except Unrecognised as stranger:
            exchange.target = self._address(head)
            self.strangers.failed(exchange.client_address)
            log.info(
                "caller.unrecognised",
                request_id=head.request_id,
                reason=stranger.reason,
                caller=stranger.caller,
            )
            raise
        exchange.caller = caller
        return caller

    def _limited(
        self, caller: Caller, grant: Grant | model.Grant | None
    ) -> AbstractAsyncContextManager[None]:
        """Once more now? Where no grant is used there is no limit of one."""
        if grant is None:
            return nullcontext()
        return self.limits.within(
            grant.limits,
            caller=caller.name,
            environment=grant.environment,
            application=grant.applications[0],
        )

    def _place(
        self, caller: Caller, environment: str | None, exchange: Exchange
    ) -> tuple[Standing, Place]:
        """Which environment. One that is not granted looks like one that does not exist."""
        standing = self.world.standing
        name = environment if environment is not None else default_environment(caller.config)
        exchange.environment = name if name in standing.places else "<unknown>"
        return standing, place_of(standing, caller, name)

    def _granted(
        self, caller: Caller, incoming: Incoming, exchange: Exchange
    ) -> tuple[Place, Grant, Bases]:
        """In which environment, as which application, under which grant?"""
        standing, place = self._place(caller, incoming.environment, exchange)
        must_serve(place, incoming.version)
        grants = grants_of(standing, caller, place)
        grant = chosen(grants, incoming.head.headers)
        if len(grants) > 1 and application_header(incoming.head.headers) is None:
            # A continuation stays with the grant that began it.
            grant = self.judge.sealing(grants, incoming.target) or grant
        return (
            place,
            grant,
            standing.bases(place, incoming.version, rooted=incoming.environment is None),
        )

    async def _decide(self, caller: Caller, incoming: Incoming, exchange: Exchange) -> Judged:
        """May they? Of a request without a body the answer is remembered.

        Where they may go at all is asked each time: a token can open less than its caller may.
        """
        standing, place = self._place(caller, incoming.environment, exchange)
        exchange.target = self.surroundings.target(place, incoming.target)
        key: object = None
        judged: Judged | None = None
        if not incoming.has_body:
            key = request_key(
                standing.number,
                caller.name,
                place.name,
                incoming.version,
                incoming,
                rooted=incoming.environment is None,
            )
            judged = self.judge.remembered(key)
        if judged is None:
            place, grant, bases = self._granted(caller, incoming, exchange)
            judged = await self._judge(incoming, place, grant, bases, exchange)
            if key is not None:
                self.judge.remember(key, judged)
        exchange.accesses, exchange.parts = judged.accesses, judged.parts
        exchange.reason = "would-refuse" if judged.allow.shadow else None
        return judged

    async def _judge(
        self, incoming: Incoming, place: Place, grant: Grant, bases: Bases, exchange: Exchange
    ) -> Judged:
        """What would it do? Unknown names are looked for in a newer schema once."""
        try:
            return await self._judge_once(incoming, place, grant, bases, exchange)
        except Refused as refused:
            exchange.accesses, exchange.parts = refused.accesses, refused.parts
            if not refused.unknown or not await self.world.refresh_schema(place.name):
                raise
            assert exchange.caller is not None
            place, grant, bases = self._granted(exchange.caller, incoming, exchange)
            return await self._judge_once(incoming, place, grant, bases, exchange)

    async def _judge_once(
        self, incoming: Incoming, place: Place, grant: Grant, bases: Bases, exchange: Exchange
    ) -> Judged:
        method, target, headers = incoming.head.method, incoming.target, incoming.head.headers
        head = self.judge.head(grant, bases, method, target, headers)
        body: bytes | None = None
        if incoming.has_body and head.body_mode is not BodyMode.STREAM:
            body = await incoming.body(grant.limits.body_bytes)
            exchange.bytes_in = len(body)
        return await aside(lambda: self.judge.judge(grant, place, bases, head.finish(body)), body)

    def _errand(self, incoming: Incoming, judged: Judged, exchange: Exchange) -> Errand:
        """As whom, where to, and with which body?"""
        place = judged.place
        applications = self._applications(judged, incoming.head.headers)
        application = self.carrier.choose(applications, place.name)
        exchange.application = application
        return Errand(
            judged=judged,
            place=place,
            upstream=self.world.upstream(place.name),
            application=application,
            applications=applications,
            exchange=exchange,
            wishes=read_wishes(incoming.head.headers, incoming.head.request_id),
            caller_headers=incoming.head.headers,
            stream=(
                counted(incoming.stream(FILE_BYTES_MAX), exchange)
                if judged.outgoing.streams
                else None
            ),
            stream_bytes=incoming.body_bytes if incoming.has_body else 0,
        )

    def _applications(self, judged: Judged, headers: Headers) -> tuple[str, ...]:
        """Who may do it: one of the pool, or the one that began it or is asked for."""
        sealed_by = judged.allow.reading.sealed_by
        if sealed_by is not None:
            return (sealed_by,)
        pool = judged.grant.applications
        if len(pool) == 1:
            return pool
        wanted = application_header(headers)
        return pool if wanted is None else (wanted,)

    def _order(
        self,
        caller: Caller,
        standing: Standing,
        head: Head,
        exchange: Exchange,
        *,
        environment: str | None,
        resource: str | None,
    ) -> Order:
        """Which token, and may they have it?"""
        if caller.identity.kind == "broker_token":
            # Or one could be renewed with itself for ever, by whoever has stolen it.
            raise Unrecognised("broker-token", caller=caller.name)
        exchange.environment = "<unknown>"
        if environment is not None:
            self._place(caller, environment, exchange)
        configuration = standing.configuration
        wanted = wanted_by(
            caller.config,
            self.giver.resources(configuration),
            addressed=environment,
            resource=resource,
        )
        exchange.environment = wanted.environment
        found = order(
            caller.config,
            wanted,
            public_url=configuration.public_url,
            addressed=environment,
            application=application_header(head.headers),
        )
        exchange.environment, exchange.application = found.environment, found.application
        return found

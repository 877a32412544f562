"""The emulated Entra as a raw ASGI application: three kinds of addresses, one journal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from app.sandbox.entra import discovery, faults, tokens
from app.sandbox.entra.proof import assertion_audiences, check_proof, usable_application
from app.sandbox.entra.refusals import Refused, refusal_answer
from app.sandbox.entra.request import read_form, read_token_request
from app.sandbox.exchange import (
    Answer,
    BodyTooLong,
    Receive,
    Scope,
    Send,
    cut,
    header,
    json_answer,
    read_body,
    respond,
)

if TYPE_CHECKING:
    from app.sandbox.entra.directory import Directory, RegisteredApplication, Resource, Tenant

Clock = Callable[[], datetime]

_NEVER_STORED = (("cache-control", "no-store, no-cache"), ("pragma", "no-cache"))
_JOURNAL_LENGTH = 100_000


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """An access token and what is said beside it."""

    access_token: str = field(repr=False)
    audience: str
    at: datetime
    lifetime: timedelta
    refresh_in: timedelta | None

    @property
    def expires_on(self) -> int:
        return int((self.at + self.lifetime).timestamp())

    @property
    def not_before(self) -> int:
        return int((self.at - tokens.BACKDATED).timestamp())


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One request that reached the token endpoint, and how it ended."""

    at: datetime
    tenant: str
    client_id: str | None
    audience: str | None
    proof: str | None
    """`secret`, `certificate`, `federated`; None where none was accepted."""
    status: int
    """0: the connection was cut."""
    code: int | None
    """The AADSTS code of a refusal."""


class EntraApp:
    """Judges and answers. Faults, lifetime, keys and the directory may change while it runs."""

    def __init__(
        self,
        *,
        directory: Directory,
        public_url: str,
        clock: Clock = utc_now,
        keys: tokens.KeyRing | None = None,
        lifetime: tokens.Lifetime | None = None,
    ) -> None:
        self.directory = directory
        self.public_url = public_url.rstrip("/")
        self.keys = keys or tokens.KeyRing()
        self.lifetime = lifetime or tokens.Lifetime()
        self.faults = faults.Faults()
        self.journal: deque[JournalEntry] = deque(maxlen=_JOURNAL_LENGTH)
        self.token_requests = 0
        """Every request that reached a token endpoint, the refused and the cut ones too."""
        self.now = clock

    def verify(self, token: str, audience: str) -> dict[str, Any] | None:
        """The claims of a token that this Entra signed for that audience, while it is valid."""
        claims = self.keys.verified_claims(token)
        if claims is None:
            return None
        good = tokens.is_good_for(claims, audience, public_url=self.public_url, now=self.now())
        return claims if good else None

    def issue(
        self,
        *,
        tenant: Tenant,
        application: RegisteredApplication,
        resource: Resource,
        audience: str | None = None,
        by_certificate: bool = False,
    ) -> Issued:
        """A token without any proof, for managed identities and for tests."""
        now = self.now()
        lifetime = self.lifetime.draw()
        audience = audience or resource.uri
        claims = tokens.access_claims(
            tenant=tenant,
            application=application,
            resource=resource,
            audience=audience,
            by_certificate=by_certificate,
            public_url=self.public_url,
            now=now,
            lifetime=lifetime,
        )
        return Issued(
            access_token=self.keys.sign(claims),
            audience=audience,
            at=now,
            lifetime=lifetime,
            refresh_in=self.lifetime.refresh_in,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        parts = scope["path"].strip("/").split("/")
        if parts[1:] in (["oauth2", "v2.0", "token"], ["oauth2", "token"]):
            await self._token(scope, receive, send, tenant=parts[0], v2=len(parts) == 4)
            return
        fault = self.faults.meet([faults.Scene.EVERYWHERE], client_id=None)
        if fault is not None and await fault.happens():
            await (respond(send, fault.answer) if fault.answer else cut(scope, receive))
            return
        await respond(send, self._looked_up(scope, parts))

    def _looked_up(self, scope: Scope, parts: list[str]) -> Answer:
        if scope["method"] not in {"GET", "HEAD"}:
            return json_answer({"error": "method_not_allowed"}, status=405)
        if parts[1:] == ["discovery", "instance"]:
            return json_answer(
                discovery.instance_discovery(public_url=self.public_url, tenant=parts[0])
            )
        try:
            tenant = self._tenant(parts[0])
        except Refused as refused:
            return refusal_answer(refused, now=self.now(), correlation_id=_correlation(scope))
        match parts[1:]:
            case ["v2.0", ".well-known", "openid-configuration"]:
                return json_answer(self._metadata(parts[0], tenant, v2=True))
            case [".well-known", "openid-configuration"]:
                return json_answer(self._metadata(parts[0], tenant, v2=False))
            case ["discovery", "v2.0", "keys"]:
                return json_answer(self._jwks(tenant, version="2.0"))
            case ["discovery", "keys"]:
                return json_answer(self._jwks(tenant, version="1.0"))
            case _:
                return json_answer({"error": "not_found"}, status=404)

    def _metadata(self, asked: str, tenant: Tenant, *, v2: bool) -> Any:
        return discovery.openid_configuration(
            public_url=self.public_url, tenant=asked, tenant_id=tenant.tenant_id, v2=v2
        )

    def _jwks(self, tenant: Tenant, *, version: str) -> Any:
        own = tokens.issuer(self.public_url, tenant.tenant_id, version=version)
        return self.keys.jwks(issuer=own)

    def _tenant(self, name: str) -> Tenant:
        tenant = self.directory.tenant(name)
        if tenant is None:
            raise Refused(90002, tenant=name)
        return tenant

    async def _token(
        self, scope: Scope, receive: Receive, send: Send, *, tenant: str, v2: bool
    ) -> None:
        self.token_requests += 1
        note: dict[str, Any] = {"client_id": None, "audience": None, "proof": None, "code": None}
        answer: Answer | None
        try:
            answer = await self._answer(scope, receive, tenant_name=tenant, v2=v2, note=note)
        except Refused as refused:
            note["code"] = refused.refusal.code
            answer = refusal_answer(refused, now=self.now(), correlation_id=_correlation(scope))
        status = 0 if answer is None else answer.status
        self.journal.append(JournalEntry(at=self.now(), tenant=tenant, status=status, **note))
        if answer is None:
            await cut(scope, receive)
        else:
            await respond(send, _unstored(answer))

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        *,
        tenant_name: str,
        v2: bool,
        note: dict[str, Any],
    ) -> Answer | None:
        """None: cut the connection. Raises `Refused`; `note` tells how far it came."""
        try:
            body = await read_body(receive)
        except BodyTooLong:
            return json_answer({"error": "request_too_large"}, status=413)
        if scope["method"] != "POST":
            raise Refused(900561, method=scope["method"])
        form = read_form(body)
        note["client_id"] = form.get("client_id")
        fault = self.faults.meet(faults.Scene, client_id=form.get("client_id"))
        if fault is not None and await fault.happens():
            return fault.answer
        tenant = self._tenant(tenant_name)
        request = read_token_request(form, authorization=header(scope, "authorization"), v2=v2)
        note |= {"client_id": request.client_id, "audience": request.audience}
        application = usable_application(tenant, request.client_id)
        if fault is not None and fault.refuse_with is not None:
            details = {"client_id": application.client_id, "name": application.name}
            raise Refused(fault.refuse_with, tenant=tenant.tenant_id, **details)
        audiences = assertion_audiences(self.public_url, tenant, asked=tenant_name)
        proof = check_proof(request, application, audiences=audiences, now=self.now())
        note["proof"] = proof
        resource = tenant.resource(request.audience)
        if resource is None:
            raise Refused(500011, resource=request.audience, tenant=tenant.tenant_id)
        issued = self.issue(
            tenant=tenant,
            application=application,
            resource=resource,
            audience=request.audience,
            by_certificate=proof != "secret",
        )
        return json_answer(_said(issued, v2=v2))


def _said(issued: Issued, *, v2: bool) -> dict[str, Any]:
    """v1 writes its numbers as strings (dataverse-reference 1.1)."""
    seconds = int(issued.lifetime.total_seconds())
    content: dict[str, Any] = {
        "token_type": "Bearer",
        "expires_in": seconds if v2 else str(seconds),
        "ext_expires_in": seconds if v2 else str(seconds),
    }
    if issued.refresh_in is not None:
        refresh_s = int(issued.refresh_in.total_seconds())
        content["refresh_in"] = refresh_s if v2 else str(refresh_s)
    if not v2:
        content |= {
            "expires_on": str(issued.expires_on),
            "not_before": str(issued.not_before),
            "resource": issued.audience,
        }
    return content | {"access_token": issued.access_token}


def _correlation(scope: Scope) -> str:
    """The caller's own id where it is one, as Entra echoes it."""
    try:
        return str(UUID(header(scope, "client-request-id") or ""))
    except ValueError:
        return str(uuid4())


def _unstored(answer: Answer) -> Answer:
    return Answer(
        status=answer.status,
        body=answer.body,
        content_type=answer.content_type,
        headers=answer.headers + _NEVER_STORED,
    )

"""Each credential of an application: can it be read, is it valid, and for how long yet?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from app.config.cautions import SECRET_LIFETIME_MAX
from app.config.model import (
    ClientSecretCredential,
    FederatedTokenCredential,
)
from app.tokens.assertions import token_from_file
from app.tokens.claims import unverified_payload
from app.tokens.failure import Failure
from app.tokens.graph import Unknown
from app.tokens.material import Registration
from app.tokens.status import kind_and_place
from app.tokens.wire import Unanswered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.config.model import Application, Credential
    from app.doctor.finding import About, Finding
    from app.tokens.credentials import CredentialReader
    from app.tokens.material import Material

ENDS_SOON: Final = timedelta(days=30)
"""As early as the broker's log begins to warn."""

SAFER: Final = (
    "A certificate, a federated token or a managed identity is safer: it is never sent, so it"
    " cannot be copied out of a log or a chat (docs/credentials.md)."
)
RENEW: Final = (
    "Make the next one, put it first among the application's credentials, and take the old one"
    " away when the new one is in use (docs/credentials.md: rotation without a gap)."
)


class Entra(Protocol):
    async def read(
        self, reader: CredentialReader, application: Application, credential: Credential
    ) -> Material | Failure: ...


class ExpiryLookup(Protocol):
    async def secret_expiry(
        self, registration: Registration, material: Material, now: datetime, /
    ) -> datetime | Unknown: ...


@dataclass(frozen=True, slots=True)
class Readable:
    """A credential that can be used, and what a person knows it by."""

    label: str
    material: Material


async def examine_credentials(
    about: About,
    application: Application,
    *,
    entra: Entra,
    reader: CredentialReader,
    graph: ExpiryLookup,
    now: datetime,
) -> tuple[list[Finding], list[Readable]]:
    findings: list[Finding] = []
    unreadable: list[tuple[str, Failure]] = []
    readable: list[Readable] = []
    for position, credential in enumerate(application.credentials):
        kind, place = kind_and_place(credential)
        label = f"credentials[{position}] ({kind.replace('_', ' ')})"
        read = await entra.read(reader, application, credential)
        if isinstance(read, Failure):
            unreadable.append((label, read))
            continue
        findings.append(about.ok("secret", f"{label} can be read: {place}"))
        readable.append(Readable(label, read))
        expires_on: datetime | Unknown | None = read.expires_on
        if expires_on is None and _asks_graph(credential):
            registration = Registration.of(application)
            expires_on = await graph.secret_expiry(registration, read, now)
        findings += judge_validity(about, label, credential, expires_on, now)
    for label, failure in unreadable:
        tell = about.warning if readable else about.failure
        findings.append(tell("secret", f"{label}: {failure.meaning}", failure.remedy))
    return findings, readable


def _asks_graph(credential: Credential) -> bool:
    return isinstance(credential, ClientSecretCredential) and credential.expires == "graph"


def judge_validity(
    about: About,
    label: str,
    credential: Credential,
    expires_on: datetime | Unknown | None,
    now: datetime,
) -> Iterator[Finding]:
    is_secret = isinstance(credential, ClientSecretCredential)
    if isinstance(expires_on, Unknown):
        yield about.warning("credential", f"{label}: {expires_on.why}", f"{expires_on.remedy}.")
    elif expires_on is not None:
        yield _end(about, label, expires_on, now)
        if is_secret and expires_on - now > SECRET_LIFETIME_MAX:
            yield about.warning(
                "credential",
                f"{label} lives until {expires_on:%Y-%m-%d}: more than twelve months",
                "Make a shorter one: whoever copied it has it for as long.",
                code="secret-lives-long",
            )
    elif is_secret:
        yield about.advice(
            "credential",
            f"{label}: nobody knows when it ends",
            "Write expires beside it: a day, or graph where the application may read itself.",
            code="secret-expiry-unknown",
        )
    elif isinstance(credential, FederatedTokenCredential):
        yield _federated(about, label, credential)
    else:
        yield about.ok("credential", f"{label} has no end of its own")
    if is_secret:
        text = f"{label} could be something safer than a secret"
        yield about.advice("credential", text, SAFER, code="secret-could-be-certificate")


def _end(about: About, label: str, expires_on: datetime, now: datetime) -> Finding:
    left = expires_on - now
    if left <= timedelta(0):
        return about.failure("credential", f"{label} has expired on {expires_on:%Y-%m-%d}", RENEW)
    text = f"{label} is good until {expires_on:%Y-%m-%d}, {left.days} days from now"
    if left <= ENDS_SOON:
        return about.warning("credential", text, RENEW)
    return about.ok("credential", text)


def _federated(about: About, label: str, credential: FederatedTokenCredential) -> Finding:
    """What Entra compares, byte by byte, with the federated credentials of the app registration."""
    path = credential.federated_token.file
    try:
        said = unverified_payload(token_from_file(path)) or {}
    except Unanswered as unanswered:
        return about.failure(
            "credential", f"{label}: {unanswered.failure.meaning}", unanswered.failure.remedy
        )
    members = [
        f"{name} {value}"
        for name in ("iss", "sub", "aud")
        if (value := _shown(said.get(name))) is not None
    ]
    if not members:
        return about.warning(
            "credential",
            f"{label}: the file holds no token that says who it is for",
            "Project a service account token with the audience api://AzureADTokenExchange.",
        )
    return about.ok(
        "credential",
        f"{label} says {', '.join(members)}: a federated credential must have the same",
    )


def _shown(value: object) -> str | None:
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str) or not value.isprintable():
        return None
    return value[:300]

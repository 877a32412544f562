"""Does Entra give a token for each credential, and does it say what it should?"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from app.tokens.answers import Obtained
from app.tokens.claims import read_unverified
from app.tokens.failure import BY_CREDENTIAL, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.config.model import Application
    from app.doctor.credentials import Readable
    from app.doctor.finding import About, Finding
    from app.tokens.claims import UnverifiedClaims
    from app.tokens.hidden import Hidden
    from app.tokens.material import Material, Registration

CLOCK_OFF: Final = timedelta(minutes=1)
CLOCK_FAR_OFF: Final = timedelta(minutes=5)
"""From here on Entra refuses assertions that this machine dates."""


class Entra(Protocol):
    async def request(
        self, registration: Registration, material: Material, resource: str, /
    ) -> Obtained | Failure: ...


@dataclass(frozen=True, slots=True)
class Token:
    """`asked_at` is before the request, so that it never looks older than it is."""

    obtained: Obtained = field(repr=False)
    asked_at: datetime

    @property
    def hidden(self) -> Hidden[str]:
        return self.obtained.token

    def open(self) -> str:
        return self.hidden.open()


async def ask_for_tokens(
    about: About,
    registration: Registration,
    credentials: Sequence[Readable],
    *,
    resource: str,
    entra: Entra,
) -> tuple[list[Finding], Token | None]:
    """One try for each credential; the first token that comes of it."""
    findings: list[Finding] = []
    refused: list[tuple[str, Failure]] = []
    token: Token | None = None
    for credential in credentials:
        asked_at = datetime.now(UTC)
        answer = await entra.request(registration, credential.material, resource)
        if isinstance(answer, Obtained):
            minutes = int(answer.lifetime_s // 60)
            findings.append(
                about.ok("token", f"{credential.label}: Entra gives a token for {minutes} minutes")
            )
            token = token or Token(answer, asked_at)
            continue
        refused.append((credential.label, answer))
        if answer.cause not in BY_CREDENTIAL:
            break  # No credential helps: asking again with each would only be loud.
    for label, failure in refused:
        tell = about.failure if token is None else about.warning
        code = f"AADSTS{failure.aadsts}" if failure.aadsts else failure.cause.value
        findings.append(tell("token", f"{label}: {failure.summary}", failure.remedy, code=code))
    if not credentials:
        findings.append(about.skipped("token", "no credential can be read"))
    return findings, token


def judge_claims(
    about: About, token: Token, *, resource: str, application: Application
) -> Iterator[Finding]:
    """What the token says of itself. It is not trusted: Dataverse judges it."""
    claims = read_unverified(token.open())
    if claims is None:
        yield about.ok("claims", "the token is none that can be looked into")
        return
    wrong = list(_wrong(claims, resource=resource, application=application))
    if wrong:
        yield about.failure(
            "claims",
            f"the token is not what was asked for: {'; '.join(wrong)}",
            "Compare the application's tenant_id and client_id, and the environment's url, with"
            " the app registration and the environment.",
        )
    else:
        yield about.ok("claims", "the token names the environment, the application and the tenant")
    yield from _clock(about, token, claims)


def _wrong(claims: UnverifiedClaims, *, resource: str, application: Application) -> Iterator[str]:
    client_id, tenant_id = str(application.client_id), application.tenant_id.lower()
    if _plain(claims.audience) not in {None, _plain(resource)}:
        yield f"its audience (aud) is {_shown(claims.audience)}, not {resource}"
    if _plain(claims.application_id) not in {None, client_id}:
        yield f"its application (appid) is {_shown(claims.application_id)}, not {client_id}"
    # A tenant may be configured by one of its domains, which a token never names.
    if (
        "-" in tenant_id
        and "." not in tenant_id
        and _plain(claims.tenant_id)
        not in {
            None,
            tenant_id,
        }
    ):
        yield f"its tenant (tid) is {_shown(claims.tenant_id)}, not {tenant_id}"


def _clock(about: About, token: Token, claims: UnverifiedClaims) -> Iterator[Finding]:
    """Entra dates a token's end by its clock, and says how long it lives."""
    if claims.expires_on is None:
        return
    here = token.asked_at + timedelta(seconds=token.obtained.lifetime_s)
    off = here - claims.expires_on
    if abs(off) < CLOCK_OFF:
        yield about.ok("clock", "this machine's clock and Entra's agree")
        return
    where = "ahead of" if off > timedelta(0) else "behind"
    text = f"this machine's clock is {abs(off).total_seconds() / 60:.0f} min {where} Entra's"
    remedy = (
        "Let NTP set it. Beyond five minutes Entra refuses the assertions that certificates sign,"
        " and tokens of callers look expired or not yet valid."
    )
    far = abs(off) >= CLOCK_FAR_OFF
    yield (about.failure if far else about.warning)("clock", text, remedy)


def _plain(value: str | None) -> str | None:
    return None if value is None else value.lower().rstrip("/")


def _shown(value: str | None) -> str:
    text = value or ""
    return text[:200] if text.isprintable() else "unreadable"

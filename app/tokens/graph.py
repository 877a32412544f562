"""Microsoft Graph: when a client secret ends, where the application may read itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.tokens.answers import Obtained
from app.tokens.wire import Unanswered, Wire
from app.tokens.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.tokens.entra import Entra
    from app.tokens.material import Material, Registration

HOSTS: Mapping[str, str] = {
    "login.microsoftonline.com": "https://graph.microsoft.com",
    "login.microsoftonline.us": "https://graph.microsoft.us",
    "login.partner.microsoftonline.cn": "https://microsoftgraph.chinacloudapi.cn",
}
"""Graph by authority. Any other authority has none, and is not asked."""

HINT_CHARACTERS = 3
"""What Graph shows of a secret: its beginning."""

LOOK_UP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why Graph did not tell. Two clauses for a person."""

    why: str
    remedy: str


NO_GRAPH = Unknown(
    "the authority has no Microsoft Graph that the broker knows", "write the day instead of graph"
)
NOT_LISTED = Unknown(
    "Microsoft Graph lists no secret that begins like this one and has not ended",
    "write the day instead of graph",
)


class Graph:
    """Asks with the very credential in question, so that a refusal says nothing about others.

    It takes Application.Read.All, or being an owner of itself with Application.ReadWrite.OwnedBy.
    """

    def __init__(self, entra: Entra, hosts: Mapping[str, str] = HOSTS) -> None:
        self._entra = entra
        self._hosts = hosts
        self._workers = Workers(threads=1)

    async def secret_expiry(
        self, registration: Registration, material: Material, now: datetime
    ) -> datetime | Unknown:
        graph = self._hosts.get(urlsplit(registration.identity.authority).netloc)
        if graph is None or material.msal_credential is None:
            return NO_GRAPH
        token = await self._entra.request(registration, material, graph)
        if not isinstance(token, Obtained):
            return Unknown(f"no token for Microsoft Graph: {token.summary}", token.remedy)
        try:
            answer = await self._workers.run(
                lambda: _application(graph, registration, token), timeout_s=LOOK_UP_TIMEOUT_S
            )
        except (Unanswered, TimeoutError) as error:
            return _untold(error)
        secret = material.msal_credential.open()
        assert isinstance(secret, str), "only client secrets are looked up"
        return earliest_end(answer.get("passwordCredentials"), secret, now) or NOT_LISTED


def _untold(error: Unanswered | TimeoutError) -> Unknown:
    status = error.failure.status if isinstance(error, Unanswered) else None
    if status in {401, 403}:
        return Unknown(
            "the application may not read itself in Microsoft Graph",
            "grant it Application.Read.All (an application permission, with admin consent), or"
            " write the day instead of graph",
        )
    said = f"Microsoft Graph answers HTTP {status}" if status else "Microsoft Graph gives no answer"
    return Unknown(said, "it is asked again tomorrow; check the firewall on the way to it")


def _application(graph: str, registration: Registration, token: Obtained) -> dict[str, Any]:
    wire = Wire(graph, names="Microsoft Graph", ca_file=registration.ca_file)
    try:
        answer: dict[str, Any] = wire.get(
            f"{graph}/v1.0/applications(appId='{registration.identity.client_id}')",
            params={"$select": "passwordCredentials"},
            headers={"Authorization": f"Bearer {token.token.open()}"},
        ).json()
    finally:
        wire.close()
    return answer


def earliest_end(credentials: object, secret: str, now: datetime) -> datetime | None:
    """The end of the secret that begins like ours. One that has passed is not ours: ours works."""
    ends = []
    for credential in credentials if isinstance(credentials, list) else []:
        if isinstance(credential, dict) and credential.get("hint") == secret[:HINT_CHARACTERS]:
            end = _moment(credential.get("endDateTime"))
            if end is not None and end > now:
                ends.append(end)
    return min(ends, default=None)


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None or moment.tzinfo is None:
        return None
    return moment.astimezone(UTC)

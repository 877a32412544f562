"""Asks one environment, as one application: reads only, and explains every refusal."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from app.dataverse.answer_headers import header
from app.dataverse.challenge import read_challenge
from app.dataverse.link_bases import LinkBases
from app.dataverse.message import UpstreamRequest
from app.dataverse.remedies import DataverseRefusal, read_refusal
from app.dataverse.throttling import LimitsLeft, limits_left
from app.doctor.needs import Privilege, TablePrivileges
from app.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.config import model
    from app.dataverse.challenge import Challenge
    from app.dataverse.client import UpstreamClient
    from app.dataverse.message import Headers
    from app.tokens.hidden import Hidden

TIMEOUT_S: Final = 60.0
BODY_BYTES_MAX: Final = 64 * 1024 * 1024
PAGES_MAX: Final = 100

DEFINITIONS: Final = "EntityDefinitions?$select=LogicalName,EntitySetName,Privileges"


@dataclass(frozen=True, slots=True)
class Answered:
    """`refusal` is None for a success; `content` is then its JSON."""

    status: int
    headers: Headers = field(repr=False)
    content: Any = field(default=None, repr=False)
    refusal: DataverseRefusal | None = None

    @property
    def limits_left(self) -> LimitsLeft:
        return limits_left(self.headers)

    @property
    def challenge(self) -> Challenge:
        return read_challenge(header(self.headers, b"www-authenticate"))

    @property
    def retry_after(self) -> str | None:
        value = header(self.headers, b"retry-after")
        return None if value is None else value.decode("latin-1")


class Unreached(Exception):
    """There was no answer, or none that can be read. Says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, refusal: DataverseRefusal) -> None:
        super().__init__(refusal.says)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Asker:
    """`token` is opened on the lines that send it."""

    client: UpstreamClient
    environment: model.Environment
    token: Hidden[str] = field(repr=False)

    @property
    def root(self) -> str:
        return f"/api/data/{self.environment.api_versions[0]}/"

    async def get(self, target: str) -> Answered:
        """`target` is below the service root. Raises `Unreached`."""
        return await self._send("GET", self.root + target)

    async def rows(self, target: str) -> list[dict[str, Any]]:
        """Of all pages. Raises `Unreached` and `Refused`."""
        found: list[dict[str, Any]] = []
        links = LinkBases(environment=self.environment.url, broker="")
        path = self.root + target
        for _ in range(PAGES_MAX):
            answer = await self._send("GET", path)
            content = succeeded(answer)
            rows = content.get("value") if isinstance(content, dict) else None
            if not isinstance(rows, list):
                raise Unreached("upstream-malformed", "the environment's answer makes no sense")
            found += [row for row in rows if isinstance(row, dict)]
            link = content.get("@odata.nextLink")
            if link is None:
                return found
            following = links.to_broker(link) if isinstance(link, str) else None
            if following is None or not following.startswith("/"):
                raise Unreached("upstream-malformed", "the answer's next page is elsewhere")
            path = following
        raise Unreached("upstream-malformed", "the environment's answer has no end")

    async def change(self, method: str, target: str, content: Any) -> Answered:
        """The one way to change something. Raises `Unreached`."""
        return await self._send(method, self.root + target, json.dumps(content).encode())

    async def _send(self, method: str, path: str, body: bytes | None = None) -> Answered:
        headers = [
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"OData-Version", b"4.0"),
            (b"OData-MaxVersion", b"4.0"),
            (b"Authorization", b"Bearer " + self.token.open().encode("ascii")),
        ]
        if body is not None:
            headers += [(b"Content-Type", b"application/json"), (b"If-Match", b"*")]
        request = UpstreamRequest(method, path.encode("ascii"), tuple(headers), body)
        try:
            answer = await self.client.send(request, timeout_s=TIMEOUT_S)
            try:
                received = bytearray()
                async for piece in answer.chunks():
                    received += piece
                    if len(received) > BODY_BYTES_MAX:
                        raise Unreached("upstream-malformed", "the answer is far too long")
            finally:
                await answer.aclose()
        except BrokerError as error:
            raise Unreached(error.code, error.detail) from error
        if answer.status >= 300:
            refusal = read_refusal(answer.status, bytes(received))
            return Answered(answer.status, answer.headers, refusal=refusal)
        return Answered(answer.status, answer.headers, content=_json(bytes(received)))


def _json(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreached("upstream-malformed", "the answer is no JSON") from error


def succeeded(answer: Answered) -> Any:
    """Its content. Raises `Refused`."""
    if answer.refusal is not None:
        raise Refused(answer.refusal)
    return answer.content


async def seen(askers: Iterable[Asker], target: str) -> Any:
    """What the first of them that may see it gets; None where nobody may."""
    for asker in askers:
        try:
            return succeeded(await asker.get(target))
        except (Unreached, Refused):
            continue
    return None


async def table_privileges(asker: Asker) -> dict[str, TablePrivileges]:
    """Of all tables, by logical name. Raises `Unreached` and `Refused`."""
    found = {}
    for row in await asker.rows(DEFINITIONS):
        name, entity_set = row.get("LogicalName"), row.get("EntitySetName")
        if isinstance(name, str):
            found[name] = TablePrivileges(
                table=name,
                entity_set=entity_set if isinstance(entity_set, str) else None,
                by_kind=_by_kind(row.get("Privileges")),
            )
    return found


def _by_kind(privileges: Any) -> dict[str, Privilege]:
    found = {}
    for one in privileges if isinstance(privileges, list) else ():
        if not isinstance(one, dict):
            continue
        kind, name, id_ = one.get("PrivilegeType"), one.get("Name"), one.get("PrivilegeId")
        if isinstance(kind, str) and isinstance(name, str):
            depths = tuple(d for d in ("Basic", "Local", "Deep", "Global") if one.get(f"CanBe{d}"))
            found[kind] = Privilege(name, id_ if isinstance(id_, str) else None, depths)
    return found

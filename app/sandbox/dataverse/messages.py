"""A request and an answer as the service sees them: no ASGI, no token, no compression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from app.sandbox.dataverse.failures import JSON_TYPE, Failed, error_body
from app.sandbox.dataverse.schema import NAMESPACE

if TYPE_CHECKING:
    from app.sandbox.dataverse.preferences import Preferences
    from app.sandbox.dataverse.rights import User

Headers = Mapping[str, list[str]]
"""By name in lower case; one entry a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`path`: below the version, still encoded. `base`: the service root that it was sent to.

    `references`: what `$1` and the like stand for in a change set, as paths below `base`.
    """

    method: str
    path: str
    query: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    base: str
    user: User
    preferences: Preferences
    references: Mapping[str, str] | None = None
    in_change_set: bool = False
    in_batch: bool = False

    def header(self, name: str) -> str | None:
        lines = self.headers.get(name)
        return lines[0] if lines else None

    def condition(self, name: str) -> str | None:
        """If-Match or If-None-Match; the literal `null` that clients send means neither."""
        value = self.header(name)
        return None if value is None or value.strip() == "null" else value.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)

    def with_headers(self, *more: tuple[str, str]) -> Answer:
        return Answer(status=self.status, headers=(*self.headers, *more), body=self.body)


def json_answer(
    content: Any, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    return Answer(
        status=status,
        headers=(("Content-Type", JSON_TYPE), ("OData-Version", "4.0"), *headers),
        body=msgspec.json.encode(content),
    )


def response(request: Request, kind: str, content: Mapping[str, Any]) -> Answer:
    """What a function or action gives back: an object of the complex type `kind`."""
    where = f"{request.base}/$metadata#{NAMESPACE}.{kind}"
    return json_answer({"@odata.context": where, **content})


def no_content(*headers: tuple[str, str]) -> Answer:
    return Answer(status=204, headers=(("OData-Version", "4.0"), *headers))


def failure_answer(failed: Failed) -> Answer:
    return Answer(
        status=failed.status,
        headers=(
            ("Content-Type", JSON_TYPE),
            ("OData-Version", "4.0"),
            *failed.headers,
        ),
        body=error_body(failed.code, failed.message),
    )

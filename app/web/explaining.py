"""What the path would make of a request, for `POST /policy/explain`: read, decided, not sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.errors import BrokerError, NotGranted, Unavailable, Unreadable
from app.odata.access import ALL
from app.path.granting import chosen, granted, must_serve
from app.path.judging import Refused
from app.web.views import (
    AccessView,
    Explanation,
    PartExplanation,
    WouldSend,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from app.audit.record import Part
    from app.identity.caller import Caller
    from app.odata.access import Access
    from app.path.judging import Judge, Judged
    from app.path.world import World
    from app.policy.decision import Missing
    from app.web.views import ExplainRequest


@dataclass(frozen=True, slots=True)
class Explainer:
    """Reads and decides as the path does, and stops there."""

    world: World
    judge: Judge

    async def explain(self, caller: Caller, request: ExplainRequest) -> Explanation:
        environment: str | None = None
        application: str | None = None
        asked: str | None = None
        try:
            named, version, target = _address(request.url, self._public_url())
            headers = _headers(request.headers)
            standing = self.world.standing
            place, grants = granted(standing, caller, named)
            must_serve(place, version)
            grant = chosen(grants, headers)
            environment, application = place.name, grant.applications[0]
            asked = _place_of(caller, place.name, grants.index(grant))
            bases = standing.bases(place, version, rooted=named is None)
            reading = self.judge.head(
                grant, bases, request.method, target.encode("utf-8"), headers
            ).finish(_body(request.body))
            judged = self.judge.judge(grant, place, bases, reading)
        except Refused as refused:
            return Explanation(
                decision="refused",
                code=refused.code,
                detail=refused.detail,
                environment=environment,
                application=application,
                grant=asked,
                accesses=tuple(_recorded(a) for a in refused.accesses),
                missing=tuple(_missing(refused.missing)),
                parts=_parts(refused.parts, refused.missing),
            )
        except NotGranted as error:
            return Explanation(decision="refused", code=error.code, detail=error.detail)
        except Unavailable:
            raise
        except BrokerError as error:
            return Explanation(
                decision="unreadable",
                code=error.code,
                detail=error.detail,
                environment=environment,
                application=application,
                grant=asked,
            )
        return _explained(judged, environment, application, asked)

    def _public_url(self) -> str:
        return self.world.standing.configuration.public_url


def _address(url: str, public_url: str) -> tuple[str | None, str, str]:
    """Environment, version and target of one of the broker's own addresses."""
    path = url.removeprefix(public_url)
    environment: str | None = None
    if path.startswith("/environments/"):
        environment, _, path = path.removeprefix("/environments/").partition("/")
        path = "/" + path
    if not path.startswith("/api/data/"):
        raise NotGranted(
            "not-granted",
            "the url is none of the proxied Web API:"
            " /environments/{environment}/api/data/{version}/… or /api/data/{version}/…",
        )
    version, _, target = path.removeprefix("/api/data/").partition("/")
    return environment, version, target


def _headers(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    """As HTTP carries them. JSON can hold what it cannot."""
    try:
        return tuple((n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in headers.items())
    except UnicodeEncodeError:
        raise Unreadable("bad-header", "a header is no text that HTTP carries") from None


def _body(body: Any) -> bytes | None:
    if body is None:
        return None
    try:
        return (body if isinstance(body, str) else json.dumps(body)).encode("utf-8")
    except UnicodeEncodeError:
        raise Unreadable("bad-body", "the body holds half of a surrogate pair") from None


def _place_of(caller: Caller, environment: str, index: int) -> str:
    """Where the grant stands in the configuration; `index` counts those of the environment."""
    places = [i for i, g in enumerate(caller.config.grants) if g.environment == environment]
    return f"callers.{caller.name}.grants[{places[index]}]"


def _parts(parts: Sequence[Part], missing: Sequence[Missing]) -> tuple[PartExplanation, ...]:
    return tuple(
        PartExplanation(
            number=number,
            method=part.method,
            target=part.target,
            decision="refused" if part.decision == "refused" else "allowed",
            accesses=tuple(_recorded(a) for a in part.accesses),
            missing=tuple(m.says for m in missing if m.part == number),
        )
        for number, part in enumerate(parts, 1)
    )


def _explained(
    judged: Judged, environment: str | None, application: str | None, asked: str | None
) -> Explanation:
    outgoing = judged.outgoing
    shadow = tuple(m.says for m in judged.allow.shadow)
    return Explanation(
        decision="allowed",
        environment=environment,
        application=application,
        grant=asked,
        accesses=tuple(_recorded(a) for a in judged.accesses),
        missing=tuple(_missing(judged.allow.shadow)),
        parts=_parts(judged.parts, judged.allow.shadow),
        warnings=tuple(f"let through, since the grant does not enforce: {s}" for s in shadow),
        would_send=WouldSend(
            method=outgoing.method,
            target=outgoing.target,
            headers=dict(outgoing.headers),
            body=None if outgoing.body is None else outgoing.body.decode("utf-8", "replace"),
        ),
    )


def _recorded(access: Any) -> AccessView:
    columns = access.columns
    return AccessView(
        table=access.table,
        operation=access.operation,
        columns="ALL" if columns is None else tuple(columns),
    )


def _missing(missing: Iterable[Missing]) -> Iterable[AccessView]:
    for one in missing:
        if one.access is not None:
            yield _access(one.access)


def _access(access: Access) -> AccessView:
    columns = access.columns
    return AccessView(
        table=access.table,
        operation=access.operation.value,
        columns="ALL" if columns is ALL else tuple(sorted(columns)),
    )

"""GET /callers/me and GET /callers: whom the broker knows, and what each may do."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - FastAPI reads annotations at run time
from typing import TYPE_CHECKING, Protocol

from fastapi import APIRouter

from app.web.openapi.answers import problem_answers
from app.web.roles import Caller, Operator  # noqa: TC001
from app.web.views import (
    CallerList,
    CallerView,
    GrantView,
    IdentityUseView,
    IdentityView,
    Me,
    TableView,
)

if TYPE_CHECKING:
    from app.config import model
    from app.config.model import BoundName
    from app.identity.caller import Caller as Known


class Directory(Protocol):
    """The callers of the configuration in use, and how their identities fare."""

    def configuration(self) -> model.Configuration: ...

    def identities(self, caller: str) -> Sequence[IdentityUseView]:
        """In the configuration's order; nothing for a caller that it does not hold."""
        ...


class CallerAddresses:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def router(self) -> APIRouter:
        router = APIRouter(tags=["callers"])
        router.add_api_route(
            "/callers/me",
            self.me,
            methods=["GET"],
            response_model=Me,
            summary="What the broker takes me for, and what I may do",
            responses=problem_answers("rate-limited"),
        )
        router.add_api_route(
            "/callers",
            self.callers,
            methods=["GET"],
            response_model=CallerList,
            summary="Every caller, its identities, their last use and expiry",
            description="Needs the role `operator`.",
            responses=problem_answers("not-granted"),
        )
        return router

    async def me(self, caller: Caller) -> Me:
        public_url = self._directory.configuration().public_url
        return describe(caller, self._directory.identities(caller.name), public_url=public_url)

    async def callers(self, _operator: Operator) -> CallerList:
        return CallerList(
            callers=tuple(
                CallerView(
                    name=name,
                    description=entry.description,
                    disabled=entry.disabled,
                    roles=entry.roles,
                    environments=tuple(dict.fromkeys(g.environment for g in entry.grants)),
                    identities=tuple(self._directory.identities(name)),
                )
                for name, entry in sorted(self._directory.configuration().callers.items())
            )
        )


def describe(known: Known, uses: Sequence[IdentityUseView], *, public_url: str) -> Me:
    """What a caller is told of itself."""
    used = (known.identity.kind, known.identity.id)
    expires = next((use.expires for use in uses if (use.kind, use.subject) == used), None)
    config = known.config
    return Me(
        caller=known.name,
        description=config.description,
        identity=IdentityView(kind=used[0], subject=used[1], expires=expires),
        roles=config.roles,
        default_environment=_default_environment(config),
        grants=tuple(_grant(grant, public_url) for grant in config.grants),
    )


def _default_environment(config: model.Caller) -> str | None:
    named = {grant.environment for grant in config.grants}
    return config.default_environment or (named.pop() if len(named) == 1 else None)


def _grant(grant: model.Grant, public_url: str) -> GrantView:
    return GrantView(
        environment=grant.environment,
        applications=grant.applications,
        base_url=f"{public_url}/environments/{grant.environment}",
        enforced=grant.enforce,
        may_hold_token=grant.issue_token,
        summary=tuple(_sentences(grant)),
        tables=tuple(
            TableView(
                table=table,
                operations=tuple(operation.value for operation in rule.operations),
                columns=rule.columns,
                writable_columns=rule.writable_columns,
                row_filter=rule.row_filter,
            )
            for table, rule in grant.tables.items()
        ),
        functions=tuple(_name(function) for function in grant.functions),
        actions=tuple(_name(action) for action in grant.actions),
        metadata=grant.metadata,
        limits=grant.limits.model_dump(mode="json"),
    )


def _name(name: str | BoundName) -> str:
    return name if isinstance(name, str) else f"{name.name} on {name.table}"


def _sentences(grant: model.Grant) -> list[str]:
    lines = [
        f"{'every other table' if table == '*' else table}: {_rule(rule)}"
        for table, rule in grant.tables.items()
    ]
    if grant.functions:
        lines.append("functions: " + ", ".join(map(_name, grant.functions)))
    if grant.actions:
        lines.append("actions: " + ", ".join(map(_name, grant.actions)))
    if grant.issue_token:
        lines.append("may hold the raw Dataverse token, which no rule above can follow")
    if not grant.enforce:
        lines.append("not enforced yet: what is not granted is let through and recorded")
    return lines or ["nothing"]


def _rule(rule: model.TableRule) -> str:
    if not rule.operations:
        return "nothing"
    said = [" and ".join(operation.value for operation in rule.operations)]
    if rule.columns is not None:
        said.append("columns " + ", ".join(rule.columns))
    if rule.writable_columns is not None:
        said.append("writes only " + (", ".join(rule.writable_columns) or "nothing"))
    if rule.row_filter is not None:
        said.append(f"only rows where {rule.row_filter}")
    return "; ".join(said)

"""GET /applications and DELETE /applications/{name}/tokens, for operators."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - FastAPI reads annotations at run time
from typing import Annotated, Protocol

from fastapi import APIRouter, Path

from app.errors import Unreadable
from app.web.openapi.answers import problem_answers
from app.web.roles import Operator  # noqa: TC001
from app.web.views import ApplicationList, ApplicationView, Forgotten


class Applications(Protocol):
    """The app registrations and the tokens held for them."""

    def applications(self) -> Sequence[ApplicationView]: ...

    def forget_tokens(self, application: str) -> int | None:
        """How many cached tokens were forgotten; None where no application has this name."""
        ...


class ApplicationAddresses:
    def __init__(self, applications: Applications) -> None:
        self._applications = applications

    def router(self) -> APIRouter:
        router = APIRouter(tags=["applications"])
        router.add_api_route(
            "/applications",
            self.list,
            methods=["GET"],
            response_model=ApplicationList,
            summary="Every application and the state of its credentials",
            description="Needs the role `operator`. Never shows a secret.",
            responses=problem_answers("not-granted"),
        )
        router.add_api_route(
            "/applications/{name}/tokens",
            self.forget,
            methods=["DELETE"],
            response_model=Forgotten,
            summary="Forget the cached tokens of an application",
            description="Needs the role `operator`. The next request fetches a new one. Tokens "
            "that were handed out stay valid until they expire: Entra cannot take them back.",
            responses=problem_answers("not-granted", "no-such-application"),
        )
        return router

    async def list(self, _operator: Operator) -> ApplicationList:
        return ApplicationList(applications=tuple(self._applications.applications()))

    async def forget(
        self,
        name: Annotated[str, Path(examples=["erp-invoices"], max_length=100)],
        _operator: Operator,
    ) -> Forgotten:
        forgotten = self._applications.forget_tokens(name)
        if forgotten is None:
            raise Unreadable("no-such-application", "no application has this name")
        return Forgotten(application=name, tokens_forgotten=forgotten)

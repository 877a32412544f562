"""POST /policy/explain: what the broker would make of a request, without sending it."""

from __future__ import annotations

from typing import Protocol

from fastapi import APIRouter

from app.identity.caller import Caller as Known  # noqa: TC001
from app.web.openapi.answers import problem_answers
from app.web.roles import Caller  # noqa: TC001
from app.web.views import ExplainRequest, Explanation


class Explainer(Protocol):
    async def explain(self, caller: Known, request: ExplainRequest) -> Explanation:
        """Reads and decides as the path does, for the caller that asks, and stops there.

        A request that cannot be read is an explanation too. Raises `BrokerError` only where
        there is nothing to judge by (`schema-unavailable`).
        """
        ...


class PolicyAddresses:
    def __init__(self, explainer: Explainer) -> None:
        self._explainer = explainer

    def router(self) -> APIRouter:
        router = APIRouter(tags=["policy"])
        router.add_api_route(
            "/policy/explain",
            self.explain,
            methods=["POST"],
            response_model=Explanation,
            summary="What a request would do, whether it is granted, and what would be sent",
            description="Judged with the caller's own grants. Sends nothing to Dataverse.",
            responses=problem_answers("bad-body", "body-too-large", "schema-unavailable"),
        )
        return router

    async def explain(self, caller: Caller, request: ExplainRequest) -> Explanation:
        return await self._explainer.explain(caller, request)

"""The addresses for people and their tools, in FastAPI: slower than the hot ones, and described.

Every request of theirs passes `web.recorded` first, so that a caller is known, and its answer is
on the record before it leaves. Only then is this app made (`web.late`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Path
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.errors import BrokerError, Unreadable
from app.web.applications import ApplicationAddresses
from app.web.asgi import HEAD_KEY
from app.web.audit import AuditAddresses
from app.web.callers import CallerAddresses
from app.web.openapi.answers import problem_answers
from app.web.policy import PolicyAddresses
from app.web.problems import PROBLEMS, problem
from app.web.recorded import REASON_KEY
from app.web.roles import Caller  # noqa: TC001 - FastAPI reads annotations at run time
from app.web.views import ProblemKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from app.web.applications import Applications
    from app.web.audit import Records
    from app.web.callers import Directory
    from app.web.policy import Explainer

_ERRORS_SHOWN: Final = 5


def management_app(
    *,
    directory: Directory,
    records: Records,
    applications: Applications,
    explainer: Explainer,
    openapi: Callable[[], bytes],
) -> FastAPI:
    """The FastAPI app. `openapi` gives the document of all addresses as JSON.

    No documentation pages: they load scripts from somebody else's host into a page where
    people paste keys. The document itself is served to callers.
    """
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's own telemetry quotes exceptions, and exceptions may quote values.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
        generate_unique_id_function=lambda route: f"{route.tags[0]}_{route.name}",
        exception_handlers={
            BrokerError: _broker_error,
            RequestValidationError: _invalid,
            HTTPException: _http_error,
        },
    )
    app.include_router(CallerAddresses(directory).router())
    app.include_router(PolicyAddresses(explainer).router())
    app.include_router(AuditAddresses(records).router())
    app.include_router(ApplicationAddresses(applications).router())
    app.include_router(DescriptionAddresses(openapi).router())
    return app


class DescriptionAddresses:
    """What the addresses and the errors of this broker are."""

    def __init__(self, openapi: Callable[[], bytes]) -> None:
        self._openapi = openapi

    def router(self) -> APIRouter:
        router = APIRouter(tags=["description"])
        router.add_api_route(
            "/openapi.json",
            self.openapi,
            methods=["GET"],
            summary="This document",
            response_class=Response,
            responses={
                200: {
                    "content": {
                        "application/json": {
                            "schema": {"type": "object"},
                            "example": {"openapi": "3.1.0"},
                        }
                    }
                },
                **problem_answers(),
            },
        )
        router.add_api_route(
            "/problems/{code}",
            self.problem,
            methods=["GET"],
            response_model=ProblemKind,
            summary="What the `type` of a problem means",
            responses=problem_answers("no-such-address"),
        )
        return router

    async def openapi(self, _caller: Caller) -> Response:
        # Beside the event loop: the first time it has to be made.
        document = await asyncio.to_thread(self._openapi)
        return Response(document, media_type="application/json")

    async def problem(
        self, code: Annotated[str, Path(examples=["not-granted"], max_length=64)], _caller: Caller
    ) -> ProblemKind:
        known = PROBLEMS.get(code)
        if known is None:
            raise Unreadable("no-such-address", "no problem has this type")
        return ProblemKind(code=code, status=known.status, title=known.title)


# ------------------------------------------------------------------- errors


def _respond(request: Request, error: BrokerError) -> Response:
    head = request.scope[HEAD_KEY]
    request.scope[REASON_KEY] = error.code
    answer = problem(error, request_id=head.request_id)
    response = Response(answer.body, status_code=answer.status)
    response.raw_headers = list(answer.headers)
    return response


async def _broker_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BrokerError)
    return _respond(request, error)


async def _invalid(request: Request, error: Exception) -> Response:
    """Names the place and the rule of each mistake, and never the value."""
    assert isinstance(error, RequestValidationError)
    found: list[dict[str, Any]] = list(error.errors())
    said = "; ".join(
        f"{'.'.join(str(step) for step in mistake['loc'])}: {mistake['msg']}"
        for mistake in found[:_ERRORS_SHOWN]
    )
    in_body = any(mistake["loc"][:1] == ("body",) for mistake in found)
    return _respond(request, Unreadable("bad-body" if in_body else "bad-query", said))


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette's router raises: nothing here, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return _respond(
            request,
            Unreadable(
                "method-not-allowed",
                f"{request.method} is not allowed here",
                extra={"allow": [name.strip() for name in allowed.split(",") if name.strip()]},
            ),
        )
    if error.status_code == 404:
        return _respond(request, Unreadable("no-such-address", "there is nothing here"))
    return _respond(request, Unreadable("bad-body", "the body cannot be read"))

"""Who asks, inside the management addresses, and whether its roles reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

from fastapi import Depends
from starlette.requests import Request  # noqa: TC002 - FastAPI reads annotations at run time

from app.errors import NotGranted
from app.identity.caller import Caller as Known
from app.web.recorded import CALLER_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

Role = Literal["auditor", "operator"]


async def caller_of(request: Request) -> Known:
    """The caller that the wrapper admitted."""
    return cast("Known", request.scope[CALLER_KEY])


def with_role(role: Role) -> Callable[[Request], Coroutine[Any, Any, Known]]:
    async def needed(request: Request) -> Known:
        caller = await caller_of(request)
        if role not in caller.config.roles:
            raise NotGranted("not-granted", f"this address needs the role {role}")
        return caller

    return needed


Caller = Annotated[Known, Depends(caller_of)]
Auditor = Annotated[Known, Depends(with_role("auditor"))]
Operator = Annotated[Known, Depends(with_role("operator"))]

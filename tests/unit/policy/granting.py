"""Grants made up for one test, on the policy cases' schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.config import model
from app.policy.compiling import compile_grant
from tests.unit.policy.trying import schema

if TYPE_CHECKING:
    from app.policy.compiling import Compiled
    from app.policy.grants import Grant

A = "11111111-1111-1111-1111-111111111111"
B = "22222222-2222-2222-2222-222222222221"


def compiled(tables: dict[str, Any], **more: Any) -> Compiled:
    given = model.Grant.model_validate(
        {"environment": "prod", "application": "crm-app", "tables": tables, **more}
    )
    return compile_grant(given, schema(), caller="tester", index=0, version="1")


def granting(tables: dict[str, Any], **more: Any) -> Grant:
    found = compiled(tables, **more)
    assert not found.problems, found.problems
    return found.grant

"""The emulated environment's application users, changed as an administrator would."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.sandbox.run import Sandbox


def set_user(sandbox: Sandbox, application: str, **columns: Any) -> None:
    """In the first environment."""
    store = sandbox.dataverse.store

    def change() -> None:
        user = _user_of(sandbox, sandbox.applications[application].client_id)
        with store.transaction():
            store.update(store.schema["systemuser"], user, columns)

    sandbox.between_requests(change)


@contextlib.contextmanager
def as_nobody(sandbox: Sandbox, application: str) -> Iterator[None]:
    """Without an application user, as long as it lasts."""
    store = sandbox.dataverse.store
    client_id = sandbox.applications[application].client_id
    user = sandbox.between_requests(lambda: _user_of(sandbox, client_id))

    def known_as(application_id: str) -> None:
        with store.transaction():
            store.update(store.schema["systemuser"], user, {"applicationid": application_id})

    sandbox.between_requests(lambda: known_as("5c2e9d10-7f3a-4b8c-8d6e-1a2b3c4d5eee"))
    try:
        yield
    finally:
        sandbox.between_requests(lambda: known_as(client_id))


@contextlib.contextmanager
def set_roles(sandbox: Sandbox, application: str, *roles: str) -> Iterator[None]:
    """Exactly these, as long as it lasts."""
    store = sandbox.dataverse.store
    client_id = sandbox.applications[application].client_id
    relation = next(r for r in store.schema.many_to_many if r.name == "systemuserroles_association")

    def held() -> list[str]:
        user = _user_of(sandbox, client_id)
        rows = store.all("SELECT roleid FROM systemuserroles WHERE systemuserid = ?", (user,))
        return [role for (role,) in rows]

    def give(wanted: list[str]) -> None:
        user, before = _user_of(sandbox, client_id), held()
        with store.transaction():
            for role in before:
                store.disassociate(relation, user, role)
            for role in wanted:
                store.associate(relation, user, role)

    def named() -> list[str]:
        rows = dict(store.all("SELECT name, roleid FROM role"))
        return [rows[name] for name in roles]

    before = sandbox.between_requests(held)
    sandbox.between_requests(lambda: give(named()))
    try:
        yield
    finally:
        sandbox.between_requests(lambda: give(before))


def _user_of(sandbox: Sandbox, client_id: str) -> str:
    found = sandbox.dataverse.store.one(
        "SELECT systemuserid FROM systemuser WHERE applicationid = ?", (client_id,)
    )
    assert found is not None
    user: str = found[0]
    return user

"""The emulated environment's application users, changed as an administrator would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.sandbox.run import Sandbox


def set_user(sandbox: Sandbox, application: str, **columns: Any) -> None:
    """In the first environment."""
    store = sandbox.dataverse.store
    client_id = sandbox.applications[application].client_id

    def change() -> None:
        found = store.one(
            "SELECT systemuserid FROM systemuser WHERE applicationid = ?", (client_id,)
        )
        assert found is not None
        with store.transaction():
            store.update(store.schema["systemuser"], found[0], columns)

    sandbox.between_requests(change)

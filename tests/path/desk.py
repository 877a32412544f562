"""A caller in the sandbox who may do most things with some columns: for tests that need one."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from app.sandbox.dataverse.rights import add_application_user
from app.sandbox.entra.directory import ClientSecret, RegisteredApplication

if TYPE_CHECKING:
    from pathlib import Path

    from app.sandbox.run import Sandbox

DESK = "desk"
"""Reads and writes accounts and contacts, but not every column of them."""

ACCOUNT_COLUMNS = (
    "accountid",
    "name",
    "accountnumber",
    "telephone1",
    "address1_city",
    "primarycontactid",
    "new_contractfile",
    "statecode",
    "createdon",
)
CONTACT_COLUMNS = ("contactid", "firstname", "lastname", "fullname", "parentcustomerid")


def furnish(sandbox: Sandbox, configuration: dict[str, Any], folder: Path) -> str:
    """Put `DESK` into the broker's configuration and its application into the sandbox: its key."""
    client_id, secret = str(uuid4()), secrets.token_urlsafe(30)
    sandbox.tenant.register(
        RegisteredApplication(
            client_id=client_id, name="crm-desk", secrets=(ClientSecret(value=secret),)
        )
    )
    store = sandbox.dataverse.store
    sandbox.between_requests(
        lambda: add_application_user(
            store, application_id=client_id, name="crm-desk", roles=("Service Writer",)
        )
    )
    file = folder / "crm-desk.secret"
    file.write_text(secret)
    like = next(iter(configuration["applications"].values()))
    configuration["applications"]["crm-desk"] = {
        **like,
        "client_id": client_id,
        "credentials": [{"client_secret": {"file": str(file)}}],
    }
    key = f"dvb_{DESK}_{secrets.token_hex(32)}"
    everything = ["read", "create", "update", "delete", "append_to"]
    configuration["callers"][DESK] = {
        "identities": [{"api_key": {"sha256": hashlib.sha256(key.encode()).hexdigest()}}],
        "grants": [
            {
                "environment": next(iter(configuration["environments"])),
                "application": "crm-desk",
                "tables": {
                    "accounts": {
                        "operations": everything,
                        "columns": list(ACCOUNT_COLUMNS),
                        "writable_columns": [
                            "name",
                            "accountnumber",
                            "telephone1",
                            "address1_city",
                            "primarycontactid",
                            "new_contractfile",
                        ],
                    },
                    "contacts": {
                        "operations": everything,
                        "columns": list(CONTACT_COLUMNS),
                        "writable_columns": ["firstname", "lastname", "parentcustomerid"],
                    },
                },
                "functions": ["WhoAmI"],
                "limits": {"page_size": 10},
            }
        ],
    }
    return key

"""A ready configuration for a broker in front of the sandbox, and keys for its callers."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import TYPE_CHECKING, Any

import yaml

from app.sandbox.credentials import (
    ADMINISTRATOR,
    MANAGED_IDENTITY_CLIENT_ID,
    OF_LEGACY_JOB,
    WITH_CERTIFICATE,
    WITH_SECRET,
    YEAR,
)
from app.sandbox.tls import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from pathlib import Path

    from app.sandbox.run import Sandbox

BROKER_AUDIENCE = "api://dataverse-token-broker"
"""A resource of the emulated Entra: its tokens prove to the broker who a caller is."""

CALLERS = ("invoice-loader", "reporting", "legacy-job", "auditor", "operator")

_HEADING = """\
# A broker in front of the sandbox: every name and key in here is made up, on this machine.
# The callers' keys are in keys.json.
"""
_READ_ACCOUNTS = {
    "operations": ["read"],
    "columns": [
        "accountid",
        "name",
        "accountnumber",
        "telephone1",
        "address1_city",
        "statecode",
        "primarycontactid",
    ],
}
_READ_CONTACTS = {
    "operations": ["read"],
    "columns": ["contactid", "fullname", "emailaddress1", "jobtitle", "parentcustomerid"],
}
_LOADED_INVOICES = {
    "operations": ["read", "create", "update"],
    "columns": [
        "invoiceid",
        "name",
        "invoicenumber",
        "totalamount",
        "duedate",
        "description",
        "customerid",
        "statecode",
        "createdon",
        "modifiedon",
    ],
    "writable_columns": [
        "name",
        "invoicenumber",
        "totalamount",
        "duedate",
        "description",
        "customerid",
    ],
}


class _WithoutAliases(yaml.SafeDumper):
    """Writes a value that stands twice out twice: people edit this file."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - yaml's signature
        return True


def write_configuration(directory: Path, sandbox: Sandbox, *, broker_url: str) -> Path:
    """Write broker.yaml, the files that it names, and keys.json; return broker.yaml.

    Keys that are in keys.json already stay good, so that a restart asks nobody to change his.
    """
    directory.mkdir(parents=True, exist_ok=True)
    keys = _keys(directory / "keys.json")
    file = directory / "broker.yaml"
    text = yaml.dump(
        _configuration(directory, sandbox, keys=keys, broker_url=broker_url),
        Dumper=_WithoutAliases,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
    file.write_text(_HEADING + text, encoding="utf-8")
    return file


def caller_keys(directory: Path) -> dict[str, str]:
    """The API keys that `write_configuration` put beside broker.yaml, by caller."""
    keys: dict[str, str] = json.loads((directory / "keys.json").read_text(encoding="utf-8"))
    return keys


def _keys(file: Path) -> dict[str, str]:
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    keys = {name: known.get(name) or f"dvb_{name}_{secrets.token_hex(32)}" for name in CALLERS}
    write_private(file, json.dumps(keys, indent=2).encode() + b"\n")
    return keys


def _configuration(
    directory: Path, sandbox: Sandbox, *, keys: Mapping[str, str], broker_url: str
) -> dict[str, Any]:
    ca_file = _as_seen_from(directory, sandbox.ca_file)
    first = next(iter(sandbox.environments))
    return {
        "public_url": broker_url,
        "applications": _applications(directory, sandbox, ca_file=ca_file),
        "environments": {
            name: {
                "url": environment.url,
                "schema": "live",
                "administrator": ADMINISTRATOR,
                "ca_file": ca_file,
            }
            for name, environment in sandbox.environments.items()
        },
        "issuers": {
            "entra": {
                "issuer": f"{sandbox.entra_url}/{sandbox.tenant_id}/v2.0",
                "audience": BROKER_AUDIENCE,
                "jwks_uri": f"{sandbox.entra_url}/{sandbox.tenant_id}/discovery/v2.0/keys",
                "ca_file": ca_file,
            }
        },
        "callers": _callers(
            keys,
            first=first,
            environments=tuple(sandbox.environments),
            expires=(sandbox.entra.now() + YEAR).date(),
        ),
    }


def _applications(directory: Path, sandbox: Sandbox, *, ca_file: str) -> dict[str, Any]:
    applications: dict[str, Any] = {}
    for name, held in sandbox.applications.items():
        if held.client_secret is not None:
            file = directory / f"{name}.secret"
            write_private(file, held.client_secret.encode())
            credential: dict[str, Any] = {"client_secret": {"file": file.name}}
            if held.secret_expires is not None:
                credential["expires"] = held.secret_expires.date()
        else:
            assert held.certificate is not None
            pem = _as_seen_from(directory, held.certificate.pem_file)
            credential = {"certificate": {"file": pem}}
        applications[name] = {
            "tenant_id": held.tenant_id,
            "client_id": held.client_id,
            "credentials": [credential],
            "authority": sandbox.entra_url,
            "ca_file": ca_file,
        }
    return applications


def _callers(
    keys: Mapping[str, str], *, first: str, environments: tuple[str, ...], expires: date
) -> dict[str, Any]:
    def caller(name: str, description: str, **rights: Any) -> dict[str, Any]:
        sha256 = hashlib.sha256(keys[name].encode()).hexdigest()
        identities: list[dict[str, Any]] = [{"api_key": {"sha256": sha256, "expires": expires}}]
        return {"description": description, "identities": identities, **rights}

    callers = {
        "invoice-loader": caller(
            "invoice-loader",
            "loads the day's invoices",
            default_environment=first,
            grants=[
                {
                    "environment": first,
                    "application": WITH_SECRET,
                    "tables": {
                        "accounts": _READ_ACCOUNTS | {"operations": ["read", "append_to"]},
                        "invoices": _LOADED_INVOICES,
                    },
                    "functions": ["WhoAmI"],
                    "limits": {"page_size": 10},
                }
            ],
        ),
        "reporting": caller(
            "reporting",
            "reads accounts and contacts for the dashboards",
            default_environment=first,
            grants=[
                {
                    "environment": name,
                    "application": WITH_CERTIFICATE,
                    "tables": {
                        "accounts": _READ_ACCOUNTS,
                        "contacts": _READ_CONTACTS,
                    },
                    "functions": ["WhoAmI"],
                }
                for name in environments
            ],
        ),
        "legacy-job": caller(
            "legacy-job",
            "an old job that talks to Dataverse itself, and so may hold its token",
            default_environment=first,
            grants=[
                {
                    "environment": first,
                    "application": OF_LEGACY_JOB,
                    "issue_token": True,
                }
            ],
        ),
        "auditor": caller("auditor", "asks who did what", roles=["auditor"]),
        "operator": caller("operator", "looks after the credentials", roles=["operator"]),
    }
    callers["reporting"]["identities"].append(
        {"jwt": {"issuer": "entra", "claims": {"azp": MANAGED_IDENTITY_CLIENT_ID}}}
    )
    return callers


def _as_seen_from(directory: Path, file: Path) -> str:
    """Relative where it lies below: the broker reads paths relative to their file."""
    file, directory = file.resolve(), directory.resolve()
    inside = file.is_relative_to(directory)
    return str(file.relative_to(directory) if inside else file)

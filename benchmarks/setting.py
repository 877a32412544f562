"""What the measured processes stand in: pages, a schema of real size, keys, an emulated Entra."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trustme
import yaml

from app.sandbox.entra.directory import Resource
from app.sandbox.run import SandboxOptions, caller_keys, sandbox_in_thread, write_configuration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLES = 800
"""Of a genuine environment; its $metadata has some 6 MB."""
COLUMNS = 60

CALLER = "reporting"
HOLDER = "legacy-job"
"""May hold the raw token."""
PAGES = {"2 KB": ("accounts", 2_000), "200 KB": ("contacts", 200_000)}
"""By the set that a request names: (set, bytes)."""
FILES = "new_table100s"
"""Whose rows have a file that the caller may write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    folder: Path
    upstream_port: int
    upstream_tls_port: int
    keys: dict[str, str]
    ca_file: Path
    certificate: Path
    private_key: Path

    def brokers_folder(self, *, tls: bool) -> Path:
        return self.folder / ("tls" if tls else "plain")


def page(entity_set: str, size: int, root: str) -> bytes:
    """A page of rows of about so many bytes, as the Dataverse at `root` writes them."""
    rows: list[dict[str, Any]] = []
    key = entity_set.removesuffix("s") + "id"
    whole = {
        "@odata.context": f"{root}/api/data/v9.2/$metadata#{entity_set}(fullname)",
        "value": rows,
    }
    body = b""
    while len(body) < size:
        rows.extend(
            {
                "@odata.etag": f'W/"{77181173 + number}"',
                key: f"e73ffc82-e292-ed11-aad1-{number:012x}",
                "fullname": f"Contoso {number}",
                "telephone1": f"+49 30 {number}",
                "emailaddress1": f"info{number}@contoso.com",
            }
            for number in range(len(rows), len(rows) + max(1, size // 4000))
        )
        body = json.dumps(whole, separators=(",", ":")).encode()
    return body


def schema_document() -> bytes:
    """CSDL as Dataverse writes it: accounts, contacts, and as many tables beside them as there
    are in a genuine environment.
    """
    names = ["account", "contact", *(f"new_table{number:03}" for number in range(TABLES - 2))]
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">',
        (
            '<edmx:DataServices><Schema Namespace="Microsoft.Dynamics.CRM" Alias="mscrm"'
            ' xmlns="http://docs.oasis-open.org/odata/ns/edm">'
        ),
        '<EntityType Name="crmbaseentity" Abstract="true" />',
    ]
    for number, name in enumerate(names):
        other = names[(number * 7 + 1) % len(names)]
        lines += [
            f'<EntityType Name="{name}" BaseType="mscrm.crmbaseentity">',
            f'<Key><PropertyRef Name="{name}id" /></Key>',
            f'<Property Name="{name}id" Type="Edm.Guid" />',
            *(
                f'<Property Name="{column}" Type="Edm.String" Unicode="false" />'
                for column in ("fullname", "name", "telephone1", "emailaddress1", "createdon")
            ),
            *(
                f'<Property Name="new_column{column:02}" Type="Edm.String" Unicode="false" />'
                for column in range(COLUMNS)
            ),
            '<Property Name="new_file" Type="Edm.Guid" />',
            '<Property Name="new_file_name" Type="Edm.String" Unicode="false" />',
            f'<Property Name="_new_{other}id_value" Type="Edm.Guid" />',
            f'<NavigationProperty Name="new_{other}id" Type="mscrm.{other}" Nullable="false">',
            (
                f'<ReferentialConstraint Property="_new_{other}id_value"'
                f' ReferencedProperty="{other}id" /></NavigationProperty>'
            ),
            "</EntityType>",
        ]
    lines.append('<EntityContainer Name="System">')
    lines += [f'<EntitySet Name="{name}s" EntityType="mscrm.{name}" />' for name in names]
    lines.append("</EntityContainer></Schema></edmx:DataServices></edmx:Edmx>")
    return "\n".join(lines).encode()


@contextlib.contextmanager
def prepared(folder: Path, *, upstream_port: int, upstream_tls_port: int) -> Iterator[Setting]:
    """Writes everything below `folder`, and runs the emulated Entra until the block ends."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    ca_file, certificate, private_key = (folder / f"{n}.pem" for n in ("ca", "server", "key"))
    authority.cert_pem.write_to_path(str(ca_file))
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(certificate), append=True)
    issued.private_key_pem.write_to_path(str(private_key))
    (folder / "metadata.xml").write_bytes(schema_document())
    urls = {
        "plain": f"http://127.0.0.1:{upstream_port}",
        "tls": f"https://127.0.0.1:{upstream_tls_port}",
    }
    for way, url in urls.items():
        pages = folder / f"pages-{way}"
        pages.mkdir()
        for entity_set, size in PAGES.values():
            (pages / entity_set).write_bytes(page(entity_set, size, url))
    with sandbox_in_thread(SandboxOptions(state_dir=folder / "sandbox")) as sandbox:
        keys: dict[str, str] = {}
        for name, url in urls.items():
            sandbox.tenant.add_resource(Resource(uri=url))
            if keys:
                (folder / name).mkdir()
                (folder / name / "keys.json").write_text(json.dumps(keys), encoding="utf-8")
            written = write_configuration(
                folder / name, sandbox, broker_url="http://broker.example"
            )
            configuration = yaml.safe_load(written.read_text(encoding="utf-8"))
            environment = configuration["environments"]["contoso"]
            environment["url"] = url
            environment["schema"] = {"file": str(folder / "metadata.xml")}
            environment["ca_file"] = str(ca_file)
            _grants(configuration["callers"])
            written.write_text(yaml.safe_dump(configuration), encoding="utf-8")
            keys = caller_keys(folder / name)
        yield Setting(
            folder=folder,
            upstream_port=upstream_port,
            upstream_tls_port=upstream_tls_port,
            keys=keys,
            ca_file=ca_file,
            certificate=certificate,
            private_key=private_key,
        )


def _grants(callers: dict[str, Any]) -> None:
    """A policy of a usual size: thirty tables with columns, of which one is asked for."""
    columns = ["fullname", "telephone1", "emailaddress1", "createdon"]
    tables = {
        name: {"operations": ["read"], "columns": columns}
        for name in ("accounts", "contacts", *(f"new_table{n:03}s" for n in range(28)))
    }
    tables[FILES] = {"operations": ["read", "update"], "columns": ["new_file"]}
    for name, caller in callers.items():
        for grant in caller.get("grants", ()):
            grant["functions"] = []
            if name != HOLDER:
                grant["tables"] = tables

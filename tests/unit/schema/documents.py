"""`$metadata` of a few tables, in Dataverse's own shape."""

from __future__ import annotations

from pathlib import Path

CASES = Path(__file__).parents[2] / "policy_cases" / "metadata.xml"

_HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">'
    '<edmx:DataServices><Schema Namespace="Microsoft.Dynamics.CRM" Alias="mscrm"'
    ' xmlns="http://docs.oasis-open.org/odata/ns/edm">'
)
_TAIL = "</Schema></edmx:DataServices></edmx:Edmx>"


def sample() -> bytes:
    return CASES.read_bytes()


def document(inside: str, container: str = "") -> bytes:
    whole = f'{inside}<EntityContainer Name="System">{container}</EntityContainer>'
    return f"{_HEAD}{whole}{_TAIL}".encode()


def table(name: str, inside: str = "", *, base: str = "", abstract: bool = False) -> str:
    more = (f' BaseType="mscrm.{base}"' if base else "") + (' Abstract="true"' if abstract else "")
    return f'<EntityType Name="{name}"{more}>{inside}</EntityType>'


def entity_set(name: str, of: str) -> str:
    return f'<EntitySet Name="{name}" EntityType="Microsoft.Dynamics.CRM.{of}" />'


def key(*names: str) -> str:
    return "<Key>" + "".join(f'<PropertyRef Name="{n}" />' for n in names) + "</Key>"


def column(name: str, kind: str = "String") -> str:
    return f'<Property Name="{name}" Type="Edm.{kind}" />'


def lookup(name: str, target: str, of: str, *, partner: str = "") -> str:
    said = f' Partner="{partner}"' if partner else ""
    return (
        f"{column(f'_{of}_value', 'Guid')}"
        f'<NavigationProperty Name="{name}" Type="mscrm.{target}"{said}>'
        f'<ReferentialConstraint Property="_{of}_value" ReferencedProperty="{target}id" />'
        "</NavigationProperty>"
    )


def collection(name: str, target: str, *, partner: str = "") -> str:
    said = f' Partner="{partner}"' if partner else ""
    return f'<NavigationProperty Name="{name}" Type="Collection(mscrm.{target})"{said} />'

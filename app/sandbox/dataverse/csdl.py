"""The `$metadata` document, in the style in which Dataverse writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.sandbox.dataverse.operations import COMPLEX_TYPES, ENUMS, OPERATIONS, Signature

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.sandbox.dataverse.schema import Column, Nav, Schema, Table

_HEAD = """<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">
  <edmx:Reference Uri="http://vocabularies.odata.org/OData.Community.Keys.V1.xml">
    <edmx:Include Namespace="OData.Community.Keys.V1" Alias="Keys" />
    <edmx:IncludeAnnotations TermNamespace="OData.Community.Keys.V1" />
  </edmx:Reference>
  <edmx:Reference Uri="http://vocabularies.odata.org/OData.Community.Display.V1.xml">
    <edmx:Include Namespace="OData.Community.Display.V1" Alias="Display" />
    <edmx:IncludeAnnotations TermNamespace="OData.Community.Display.V1" />
  </edmx:Reference>
  <edmx:DataServices>
    <Schema Namespace="Microsoft.Dynamics.CRM" Alias="mscrm" xmlns="http://docs.oasis-open.org/odata/ns/edm">
      <EntityType Name="crmbaseentity" Abstract="true" />
      <EntityType Name="expando" BaseType="mscrm.crmbaseentity" OpenType="true" />
"""
_TAIL = """    </Schema>
  </edmx:DataServices>
</edmx:Edmx>
"""


def metadata_document(schema: Schema) -> bytes:
    lines: list[str] = []
    for table in schema:
        lines += _entity_type(schema, table)
    lines += _types()
    for name, signature in OPERATIONS.items():
        lines += _operation(name, signature)
    lines += _container(schema)
    return (_HEAD + "".join(f"      {line}\n" for line in lines) + _TAIL).encode()


def _entity_type(schema: Schema, table: Table) -> Iterator[str]:
    abstract = ' Abstract="true"' if table.abstract else ""
    yield (
        f'<EntityType Name="{table.logical}" BaseType="mscrm.{table.base or "crmbaseentity"}"'
        f"{abstract}>"
    )
    if table.base is None:
        # Who derives inherits the key: a user's is ownerid, beside its systemuserid.
        yield "  <Key>"
        yield f'    <PropertyRef Name="{table.pk}" />'
        yield "  </Key>"
    for column in table.columns:
        if column.name not in table.inherited:
            yield f"  {_property(column)}"
    for nav in sorted(table.navs.values(), key=lambda n: (n.is_collection, n.name)):
        if nav.declared_on == table.logical:
            yield from (f"  {line}" for line in _navigation(schema, table, nav))
    if table.keys:
        yield from (f"  {line}" for line in _keys(table))
    yield "</EntityType>"


def _property(column: Column) -> str:
    extra = {"Edm.String": ' Unicode="false"', "Edm.Decimal": ' Scale="Variable"'}
    return (
        f'<Property Name="{column.property_name}" Type="{column.edm}"{extra.get(column.edm, "")} />'
    )


def _navigation(schema: Schema, table: Table, nav: Nav) -> Iterator[str]:
    if nav.is_collection:
        yield (
            f'<NavigationProperty Name="{nav.name}" Type="Collection(mscrm.{nav.target})" '
            f'Partner="{nav.partner}" />'
        )
        return
    yield (
        f'<NavigationProperty Name="{nav.name}" Type="mscrm.{nav.target}" Nullable="false" '
        f'Partner="{nav.partner}">'
    )
    column = table.by_name[nav.lookup]
    yield (
        f'  <ReferentialConstraint Property="{column.property_name}" '
        f'ReferencedProperty="{schema[nav.target].pk}" />'
    )
    yield "</NavigationProperty>"


def _keys(table: Table) -> Iterator[str]:
    keys = "OData.Community.Keys.V1"
    yield f'<Annotation Term="{keys}.AlternateKeys">'
    yield "  <Collection>"
    for key in table.keys:
        yield f'    <Record Type="{keys}.AlternateKey">'
        yield '      <PropertyValue Property="Key">'
        yield "        <Collection>"
        for name in key.columns:
            named = table.by_name[name].property_name
            yield f'          <Record Type="{keys}.PropertyRef">'
            yield f'            <PropertyValue Property="Alias" String="{named}" />'
            yield f'            <PropertyValue Property="Name" PropertyPath="{named}" />'
            yield "          </Record>"
        yield "        </Collection>"
        yield "      </PropertyValue>"
        yield "    </Record>"
    yield "  </Collection>"
    yield "</Annotation>"


def _types() -> Iterator[str]:
    for name, properties in COMPLEX_TYPES.items():
        yield f'<ComplexType Name="{name}">'
        for key, kind in properties.items():
            unicode = ' Unicode="false"' if kind == "Edm.String" else ""
            yield f'  <Property Name="{key}" Type="{kind}"{unicode} />'
        yield "</ComplexType>"
    for name, members in ENUMS.items():
        yield f'<EnumType Name="{name}">'
        for value, member in enumerate(members):
            yield f'  <Member Name="{member}" Value="{value}" />'
        yield "</EnumType>"


def _operation(name: str, signature: Signature) -> Iterator[str]:
    tag = "Function" if signature.is_function else "Action"
    bound = ' IsBound="true"' if signature.bound else ""
    composable = ' IsComposable="true"' if signature.composable else ""
    yield f'<{tag} Name="{name}"{bound}{composable}>'
    if signature.bound:
        binding = "entityset" if signature.bound.startswith("Collection(") else "entity"
        yield f'  <Parameter Name="{binding}" Type="{signature.bound}" Nullable="false" />'
    for key, kind in signature.parameters.items():
        unicode = ' Unicode="false"' if kind == "Edm.String" else ""
        yield f'  <Parameter Name="{key}" Type="{kind}" Nullable="false"{unicode} />'
    if signature.returns:
        yield f'  <ReturnType Type="{signature.returns}" Nullable="false" />'
    yield f"</{tag}>"


def _container(schema: Schema) -> Iterator[str]:
    yield '<EntityContainer Name="System">'
    for table in schema:
        yield (
            f'  <EntitySet Name="{table.set_name}" '
            f'EntityType="Microsoft.Dynamics.CRM.{table.logical}">'
        )
        for nav in sorted(table.navs.values(), key=lambda n: n.name):
            target = schema[nav.target]
            if not target.abstract:
                yield (
                    f'    <NavigationPropertyBinding Path="{nav.name}" '
                    f'Target="{target.set_name}" />'
                )
        yield "  </EntitySet>"
    for name, signature in OPERATIONS.items():
        if not signature.bound:
            tag = "Function" if signature.is_function else "Action"
            yield f'  <{tag}Import Name="{name}" {tag}="Microsoft.Dynamics.CRM.{name}" />'
    yield "</EntityContainer>"

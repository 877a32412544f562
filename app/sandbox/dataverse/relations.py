"""How rows belong together, as SQL: along a navigation property, in either direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.sandbox.dataverse.store import type_column

if TYPE_CHECKING:
    from app.sandbox.dataverse.schema import Nav, Schema, Table


def join_condition(schema: Schema, nav: Nav, here: str, source: Table, there: str) -> str:
    """How rows of `nav.target`, aliased `there`, belong to a row of `source`, aliased `here`."""
    target = schema[nav.target]
    if nav.kind == "single":
        condition = f"{there}.{target.pk} = {here}.{nav.lookup}"
        column = source.by_name[nav.lookup]
        if column.polymorphic and not target.abstract:
            condition += f" AND {here}.{type_column(nav.lookup)} = '{target.logical}'"
        return condition
    if nav.kind == "many":
        condition = f"{there}.{nav.lookup} = {here}.{source.pk}"
        column = target.by_name[nav.lookup]
        if column.polymorphic and source.logical in column.targets:
            condition += f" AND {there}.{type_column(nav.lookup)} = '{source.logical}'"
        return condition
    assert nav.relation is not None
    near, far = ends(nav)
    return (
        f"{there}.{target.pk} IN (SELECT {far} FROM {nav.relation.intersect} "  # noqa: S608
        f"WHERE {near} = {here}.{source.pk})"
    )


def ends(nav: Nav) -> tuple[str, str]:
    """The intersect's columns for the row that the property is on, and for the other one."""
    assert nav.relation is not None
    pairs = nav.relation
    if nav.declared_on == pairs.left and nav.name == pairs.left_nav:
        return pairs.left_column, pairs.right_column
    return pairs.right_column, pairs.left_column


def restriction(schema: Schema, nav: Nav, source: Table, alias: str) -> str:
    """Which rows of the target `nav` holds for the row of `source` whose id is :key."""
    target = schema[nav.target]
    if nav.kind == "single":
        return f"{alias}.{target.pk} = :key"
    if nav.kind == "many":
        condition = f"{alias}.{nav.lookup} = :key"
        column = target.by_name[nav.lookup]
        if column.polymorphic and source.logical in column.targets:
            condition += f" AND {alias}.{type_column(nav.lookup)} = '{source.logical}'"
        return condition
    near, far = ends(nav)
    assert nav.relation is not None
    pairs = nav.relation.intersect
    return f"{alias}.{target.pk} IN (SELECT {far} FROM {pairs} WHERE {near} = :key)"  # noqa: S608

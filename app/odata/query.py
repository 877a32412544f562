"""Query options as values: what a request asks of rows, before any schema is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from app.odata.tree import Expression, operand_text, text

if TYPE_CHECKING:
    from app.odata.fetchxml import Fetch

ALL_PROPERTIES = ("*",)


class Aggregate(msgspec.Struct, frozen=True):
    """`revenue with sum as total`; without `method`, `$count as total`."""

    source: Expression | None
    method: str | None
    alias: str


class FilterStep(msgspec.Struct, frozen=True):
    """`filter(…)` in `$apply`."""

    condition: Expression


class GroupStep(msgspec.Struct, frozen=True):
    """`groupby((a,b),aggregate(…))`; without keys, `aggregate(…)` alone."""

    keys: tuple[tuple[str, ...], ...] | None
    aggregates: tuple[Aggregate, ...]


Step = FilterStep | GroupStep


class Query(msgspec.Struct, frozen=True):
    """What stands behind `?`, or in the parentheses of an expanded item."""

    select: tuple[str, ...] | None = None
    expand: tuple[Expand, ...] = ()
    filter: Expression | None = None
    orderby: tuple[tuple[Expression, bool], ...] = ()
    apply: tuple[Step, ...] = ()
    count: bool | None = None
    top: int | None = None
    skiptoken: str | None = None
    deltatoken: str | None = None
    fetch: Fetch | None = None
    opaque: tuple[str, str] | None = None
    """`savedQuery`, `userQuery` or `sql`, and its value."""
    reference: str | None = None
    """`$id`: the row that a DELETE of a `$ref` takes out."""
    aliases: tuple[tuple[str, Expression], ...] = ()
    plain: tuple[tuple[str, str], ...] = ()
    """Options of file transfers and of `$metadata`: `size`, `x-ms-file-name`, …"""

    def __repr__(self) -> str:
        return f"Query({', '.join(name for name, _ in write_options(self))})"

    def continued(self) -> bool:
        return self.skiptoken is not None or self.deltatoken is not None

    def referring(self, url: str) -> Query:
        """The same with this `$id`."""
        return replace(self, reference=url)


class Expand(msgspec.Struct, frozen=True):
    """`navigation`, perhaps behind a cast; perhaps only its `$ref` or `$count`."""

    navigation: str
    cast: str | None = None
    suffix: str | None = None
    query: Query = Query()


EMPTY = Query()


def aggregates(steps: tuple[Step, ...]) -> bool:
    """Whether rows are gone from the result: only groups and figures are left."""
    return any(isinstance(step, GroupStep) for step in steps)


def write_select(names: tuple[str, ...]) -> str:
    return ",".join(names)


def write_orderby(keys: tuple[tuple[Expression, bool], ...]) -> str:
    return ",".join(operand_text(key) + (" desc" if descending else "") for key, descending in keys)


def write_step(step: Step) -> str:
    if isinstance(step, FilterStep):
        return f"filter({text(step.condition)})"
    figures = ",".join(
        f"$count as {a.alias}"
        if a.source is None
        else f"{operand_text(a.source)} with {a.method} as {a.alias}"
        for a in step.aggregates
    )
    if step.keys is None:
        return f"aggregate({figures})"
    keys = ",".join("/".join(k) for k in step.keys)
    return f"groupby(({keys}),aggregate({figures}))" if figures else f"groupby(({keys}))"


def write_expand(items: tuple[Expand, ...]) -> str:
    return ",".join(_expand_item(i) for i in items)


def _expand_item(item: Expand) -> str:
    path = item.navigation
    if item.cast is not None:
        path += f"/{item.cast}"
    if item.suffix is not None:
        path += f"/{item.suffix}"
    inside = ";".join(f"{name}={value}" for name, value in write_options(item.query))
    return f"{path}({inside})" if inside else path


def write_options(query: Query) -> tuple[tuple[str, str], ...]:
    """The options by name and text, not yet percent-encoded, in one fixed order."""
    options: list[tuple[str, str]] = []
    if query.fetch is not None:
        options.append(("fetchXml", query.fetch.xml()))
    if query.opaque is not None:
        options.append(query.opaque)
    if query.apply:
        options.append(("$apply", "/".join(write_step(s) for s in query.apply)))
    if query.select is not None:
        options.append(("$select", write_select(query.select)))
    if query.filter is not None:
        options.append(("$filter", text(query.filter)))
    if query.orderby:
        options.append(("$orderby", write_orderby(query.orderby)))
    if query.expand:
        options.append(("$expand", write_expand(query.expand)))
    if query.top is not None:
        options.append(("$top", str(query.top)))
    if query.count is not None:
        options.append(("$count", "true" if query.count else "false"))
    if query.reference is not None:
        options.append(("$id", query.reference))
    options.extend((name, text(value)) for name, value in query.aliases)
    options.extend(query.plain)
    if query.skiptoken is not None:
        options.append(("$skiptoken", query.skiptoken))
    if query.deltatoken is not None:
        options.append(("$deltatoken", query.deltatoken))
    return tuple(options)


def without_tokens(query: Query) -> Query:
    """The request that a continuation goes on with."""
    return replace(query, skiptoken=None, deltatoken=None)

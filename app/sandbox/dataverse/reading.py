"""Answers to GET: rows, pages, properties, references, counts."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.apply import Apply, read_apply
from app.sandbox.dataverse.cookies import read_skip_token, skip_token
from app.sandbox.dataverse.expressions import Every
from app.sandbox.dataverse.failures import (
    bad_request,
    no_row,
    no_row_with_key,
    no_segment,
)
from app.sandbox.dataverse.fetchxml import read_fetch
from app.sandbox.dataverse.messages import Answer, Request, json_answer, no_content
from app.sandbox.dataverse.options import Asked, read_options
from app.sandbox.dataverse.resources import Count, Property, Reference, Resource, Row, Rows
from app.sandbox.dataverse.sql_query import run_sql

if TYPE_CHECKING:
    from app.sandbox.dataverse.query import Reader
    from app.sandbox.dataverse.schema import Table
    from app.sandbox.dataverse.store import Store
    from app.sandbox.dataverse.targets import Query

_TRACKING_FORBIDS = ("$filter", "$orderby", "$expand", "$top")


def read(store: Store, reader: Reader, request: Request, found: Resource, query: Query) -> Answer:
    match found:
        case Rows():
            return _rows(store, reader, request, found, query)
        case Row():
            return _row(store, reader, request, found, query)
        case Property():
            return _property(reader, request, found)
        case Reference():
            return _reference(store, reader, request, found)
        case Count(rows):
            return _count(store, reader, rows, query)
    raise no_segment(request.path)


def context(base: str, table: Table, asked: Asked, *, single: bool = False) -> str:
    return f"{base}/$metadata#{table.set_name}{_listed(asked)}{'/$entity' if single else ''}"


def _listed(asked: Asked) -> str:
    """`(name,primarycontactid(fullname))`: what was chosen, as the context URL says it."""
    names = list(asked.select or ())
    for expand in asked.expand:
        inner = "/$ref()" if expand.reference else _listed(expand.asked) or "()"
        names.append(f"{expand.nav}{inner}")
    return f"({','.join(names)})" if names else ""


def represented(
    reader: Reader, request: Request, table: Table, row_id: str, asked: Asked
) -> dict[str, Any]:
    row = reader.row(table, row_id, asked)
    if row is None:
        raise no_row(table.logical, row_id)
    return {"@odata.context": context(request.base, table, asked, single=True), **row}


def applied(request: Request) -> tuple[tuple[str, str], ...]:
    reads = request.method == "GET"
    named = [a for a in request.preferences.applied if not (reads and a.startswith("return"))]
    return (("Preference-Applied", ",".join(named)),) if named else ()


def _rows(store: Store, reader: Reader, request: Request, found: Rows, query: Query) -> Answer:
    fetch = fetch_text(store, request, query)
    if fetch is not None:
        return _fetched(reader, request, found, fetch)
    sql = query.get("sql")
    if sql is not None:
        return _queried(store, request, found, sql)
    asked = read_options(query)
    table = found.table
    applying = query.get("$apply")
    if applying is not None:
        apply = read_apply(applying, query.aliases)
        if not apply.returns_rows:
            return _aggregated(reader, request, found, asked, apply)
        filters = (*apply.filters, *((asked.filter,) if asked.filter is not None else ()))
        asked = replace(asked, filter=Every(filters))
    token, delta = query.get("$skiptoken"), query.get("$deltatoken")
    tracking = request.preferences.track_changes
    if tracking or delta is not None:
        for name in _TRACKING_FORBIDS:
            if query.get(name) is not None:
                raise bad_request(
                    f'The "${{{name[1:]}}}" query parameter isn\'t supported when Change Tracking '
                    "is enabled."
                )
    since = _version(delta) if delta is not None else None
    continuation = read_skip_token(token) if token is not None else None
    # What changes while pages are being read belongs to the next round.
    now = store.version
    if continuation is not None and continuation.since is not None:
        now = continuation.since
    page = reader.page(table, asked, holder=found.holder, continuation=continuation, since=since)
    content: dict[str, Any] = {"@odata.context": context(request.base, table, asked)}
    if request.preferences.annotates("Microsoft.Dynamics.CRM.totalrecordcount"):
        content["@Microsoft.Dynamics.CRM.totalrecordcount"] = (
            -1 if page.total is None else page.total
        )
        content["@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"] = False
        content["@Microsoft.Dynamics.CRM.globalmetadataversion"] = "1000001"
    if page.total is not None:
        content["@odata.count"] = page.total
    content["value"] = page.rows
    here = f"{request.base}/{request.path}".replace(" ", "%20")
    if page.marks is not None:
        number = 1 if continuation is None else continuation.page
        link = query.linked(
            without=("$skiptoken",),
            token=("$skiptoken", skip_token(number, page.marks, now if tracking else None)),
        )
        content["@odata.nextLink"] = f"{here}?{link}"
    elif tracking or since is not None:
        if since is not None:
            content["value"] = page.rows + _gone(store, request, table, since)
        stamp = f"{now}!01/08/2024 08:00:00"
        link = query.linked(without=("$skiptoken", "$deltatoken"), token=("$deltatoken", stamp))
        content["@odata.deltaLink"] = f"{here}?{link}"
    return json_answer(content, headers=applied(request))


def fetch_text(store: Store, request: Request, query: Query) -> str | None:
    """FetchXML that the request carries, or that a saved query of its names."""
    text = query.get("fetchXml")
    if text is not None:
        return text
    for option, logical in (("savedQuery", "savedquery"), ("userQuery", "userquery")):
        named = query.get(option)
        if named is None:
            continue
        table = store.schema[logical]
        request.user.need("Read", table)
        row = store.row(table, named.strip("{}").lower())
        if row is None:
            raise no_row(logical, named)
        return str(row["fetchxml"])
    return None


def _queried(store: Store, request: Request, found: Rows, sql: str) -> Answer:
    where = context(request.base, found.table, Asked())
    rows = run_sql(store, request.user, sql)
    return json_answer({"@odata.context": where, "value": rows}, headers=applied(request))


def _aggregated(
    reader: Reader, request: Request, found: Rows, asked: Asked, apply: Apply
) -> Answer:
    if asked.orderby:
        raise bad_request("The query node SingleValueOpenPropertyAccess is not supported.")
    if asked.filter is not None:
        apply = replace(apply, filters=(*apply.filters, asked.filter))
    rows = reader.aggregated(found.table, apply, holder=found.holder, top=asked.top)
    where = context(request.base, found.table, Asked())
    return json_answer({"@odata.context": where, "value": rows}, headers=applied(request))


def _fetched(reader: Reader, request: Request, found: Rows, text: str) -> Answer:
    fetch = read_fetch(text)
    page = reader.fetcher().run(fetch, found.table, holder=found.holder)
    content: dict[str, Any] = {
        "@odata.context": context(request.base, found.table, Asked()),
    }
    notes = request.preferences
    if page.total is not None:
        content["@odata.count"] = page.total
        if notes.annotates("Microsoft.Dynamics.CRM.totalrecordcount"):
            content["@Microsoft.Dynamics.CRM.totalrecordcount"] = page.total
    if page.cookie is not None and notes.annotates("Microsoft.Dynamics.CRM.fetchxmlpagingcookie"):
        content["@Microsoft.Dynamics.CRM.fetchxmlpagingcookie"] = page.cookie
    if notes.annotates("Microsoft.Dynamics.CRM.morerecords"):
        content["@Microsoft.Dynamics.CRM.morerecords"] = page.more
    return json_answer({**content, "value": page.rows}, headers=applied(request))


def _version(token: str) -> int:
    number = token.partition("!")[0].strip()
    if not number.isdigit():
        raise bad_request("The delta token is not valid.")
    return int(number)


def _gone(store: Store, request: Request, table: Table, since: int) -> list[dict[str, Any]]:
    return [
        {
            "@odata.context": f"{request.base}/$metadata#{table.set_name}/$deletedEntity",
            "id": row_id,
            "reason": "deleted",
        }
        for (row_id,) in store.all(
            "SELECT id FROM _deleted WHERE tbl = ? AND version > ? ORDER BY version",
            (table.logical, since),
        )
    ]


def _row(store: Store, reader: Reader, request: Request, found: Row, query: Query) -> Answer:
    asked = read_options(query)
    if asked.filter is not None or asked.orderby or asked.top is not None or asked.count:
        raise bad_request(
            "Query options $filter, $orderby, $top and $count can be applied only on collections."
        )
    table = found.table
    if found.id is None:
        if found.via is not None:
            return no_content()
        raise no_row_with_key(table.logical)
    version = store.version_of(table, found.id)
    if version is None:
        raise no_row(table.logical, found.id)
    etag = f'W/"{version}"'
    plain = not asked.expand and not request.preferences.annotations
    if plain and request.condition("if-none-match") == etag:
        request.user.need("Read", table)
        return Answer(status=304, headers=(("OData-Version", "4.0"), ("ETag", etag)))
    content = represented(reader, request, table, found.id, asked)
    return json_answer(content, headers=(*applied(request), ("ETag", etag)))


def _property(reader: Reader, request: Request, found: Property) -> Answer:
    table, column = found.row.table, found.column
    row_id = found.row.existing()
    row = reader.row(table, row_id, Asked(select=(column.property_name,)))
    if row is None:
        raise no_row(table.logical, row_id)
    value = row[column.property_name]
    if value is None:
        return no_content()
    if found.raw:
        return _raw(column.kind == "image", value)
    path = f"{table.set_name}({row_id})/{column.property_name}"
    return json_answer({"@odata.context": f"{request.base}/$metadata#{path}", "value": value})


def _raw(image: bool, value: Any) -> Answer:  # noqa: FBT001 - one of two content types
    if image:
        body, kind = base64.b64decode(value), "application/octet-stream"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        body, kind = text.encode(), "text/plain"
    return Answer(status=200, headers=(("Content-Type", kind), ("OData-Version", "4.0")), body=body)


def _reference(store: Store, reader: Reader, request: Request, found: Reference) -> Answer:
    holder, nav = found.holder, found.nav
    row_id = holder.existing()
    target = store.schema[nav.target]
    request.user.need("Read", holder.table)
    if nav.lookup:
        request.user.touch("Read", target if nav.is_collection else holder.table, nav.lookup)
    if nav.is_collection:
        page = reader.page(target, Asked(select=()), holder=(nav, holder.table, row_id))
        return json_answer(
            {
                "@odata.context": f"{request.base}/$metadata#Collection($ref)",
                "value": [
                    {"@odata.id": f"{request.base}/{target.set_name}({row[target.pk]})"}
                    for row in page.rows
                ],
            }
        )
    stored = store.row(holder.table, row_id)
    if stored is None:
        raise no_row(holder.table.logical, row_id)
    far_id, kind = stored[nav.lookup], stored.get(f"{nav.lookup}__type") or nav.target
    if far_id is None or nav.target not in {kind, "principal"}:
        return no_content()
    far = store.schema[kind]
    return json_answer(
        {
            "@odata.context": f"{request.base}/$metadata#$ref",
            "@odata.id": f"{request.base}/{far.set_name}({far_id})",
        }
    )


def _count(store: Store, reader: Reader, rows: Rows, query: Query) -> Answer:
    asked = read_options(query)
    delta = query.get("$deltatoken")
    if delta is not None:
        since = _version(delta)
        changed = store.one(
            f"SELECT COUNT(*) FROM {rows.table.logical} WHERE versionnumber > ?",  # noqa: S608
            (since,),
        )
        number = int(changed[0]) if changed else 0
    else:
        number = reader.size(rows.table, asked, holder=rows.holder)
    # A byte order mark in front, as the documents' samples show (dataverse-reference 3.7).
    return Answer(
        status=200,
        headers=(("Content-Type", "text/plain"), ("OData-Version", "4.0")),
        body=b"\xef\xbb\xbf" + str(number).encode(),
    )

"""`…/$ref` written and deleted: rows joined and parted by their addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import Unreadable
from app.odata.joining import join, part, write_lookup
from app.odata.json_text import Json, read_json_body
from app.odata.links import Reference, read_reference
from app.odata.methods import not_taken
from app.odata.options import only
from app.odata.rows import address, referenced

if TYPE_CHECKING:
    from app.odata.query import Query
    from app.odata.read import Head
    from app.odata.resolve import Scope
    from app.schema.model import Navigation

_NONE: frozenset[str] = frozenset()


def read_reference_write(head: Head, body: bytes | None) -> tuple[Reference | None, Query]:
    """The reference that is sent, and the query as it is sent. Raises `Unreadable`."""
    place, resolver = head.place, head.resolver
    source, target, navigation = place.source, place.scope, place.navigation
    assert source is not None
    assert target is not None
    assert navigation is not None
    single = not navigation.collection
    adds = "PUT" if single else "POST"
    if head.method not in {"DELETE", adds}:
        raise not_taken(f"{navigation.name}/$ref takes {adds}", allow=("GET", adds, "DELETE"))
    if place.source_key is not None:
        address(resolver, source, place.source_key, writes=single)
    if single:
        assert navigation.column is not None
        write_lookup(resolver.found, source.sets, navigation.column)
    if head.method == "DELETE":
        return None, _parted(head, source, target, navigation)
    only(head.query, _NONE, "is not read on a reference")
    if place.key is not None:
        raise Unreadable("bad-path", "a row is added by its @odata.id, not by a key")
    reference = _referred(head, read_json_body(body, head.headers.content_type))
    found = referenced(resolver, head.context, reference, target)
    if found is not None:
        sets, made = found
        join(
            resolver.found,
            navigation,
            near=source.sets,
            far=sets,
            near_made=place.created,
            far_made=made,
        )
    return reference, head.query


def _referred(head: Head, value: Json) -> Reference:
    link = value.get("@odata.id") if isinstance(value, dict) else None
    if (
        not isinstance(value, dict)
        or not isinstance(link, str)
        or not value.keys() <= {"@odata.id", "@odata.context"}
    ):
        raise Unreadable("bad-body", 'a reference is written as {"@odata.id": …}')
    return read_reference(link, head.context.bases)


def _parted(head: Head, source: Scope, target: Scope, navigation: Navigation) -> Query:
    place, query, resolver = head.place, head.query, head.resolver
    if not navigation.collection:
        only(query, _NONE, "is not read on a single reference")
        return query
    only(query, frozenset({"reference"}), "is not read on a reference")
    far = target.sets
    if (query.reference is None) == (place.key is None):
        raise Unreadable("bad-path", "name the row to take out: by its key, or by $id")
    if place.key is not None:
        address(resolver, target, place.key)
    elif query.reference is not None:
        reference = read_reference(query.reference, head.context.bases)
        found = referenced(resolver, head.context, reference, target)
        far = target.sets if found is None else found[0]
        if reference.content_id is None:
            query = query.referring(head.context.bases.service + reference.relative())
    part(resolver.found, navigation, near=source.sets, far=far)
    return query

"""FetchXML as values: read with no DTD, no entities, and no element that is not known."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.sandbox.dataverse.failures import Failed, not_emulated

if TYPE_CHECKING:
    from collections.abc import Iterable

DEPTH_MAX = 40
AGGREGATES = frozenset({"count", "countcolumn", "sum", "avg", "min", "max"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    name: str
    alias: str | None = None
    aggregate: str | None = None
    groups: bool = False
    date_grouping: str | None = None
    distinct: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    attribute: str | None
    alias: str | None
    descending: bool
    entity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    attribute: str
    operator: str
    values: tuple[str, ...] = ()
    entity: str | None = None
    value_of: str | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    either: bool
    members: tuple[Condition | Filter | Link, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    name: str
    attributes: tuple[Attribute, ...] = ()
    all_attributes: bool = False
    orders: tuple[Order, ...] = ()
    filters: tuple[Filter, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    entity: Entity
    source: str
    """The column of the linked table (`from`)."""
    target: str
    """The column of the entity around it (`to`)."""
    kind: str = "inner"
    alias: str | None = None
    intersect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    entity: Entity
    top: int | None = None
    count: int | None = None
    page: int = 1
    cookie: str | None = None
    distinct: bool = False
    aggregate: bool = False
    wants_total: bool = False


class _Builder(ET.TreeBuilder):
    """Refuses a DOCTYPE as soon as it is seen."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        del name, pubid, system
        raise _invalid("DTD is prohibited in this XML document.")


def _invalid(reason: str) -> Failed:
    return Failed(400, "0x80041129", f"Invalid XML. {reason}")


def _bad(reason: str) -> Failed:
    return Failed(400, "0x8004111c", f"Invalid query. {reason}")


def read_fetch(text: str) -> Fetch:
    parser = ET.XMLParser(target=_Builder())  # noqa: S314 - a DOCTYPE is refused above
    try:
        parser.feed(text.strip())
        root = parser.close()
    except ET.ParseError as error:
        raise _invalid(str(error)) from error
    if root.tag != "fetch":
        raise _bad(f"Unexpected element '{root.tag}'.")
    if "datasource" in root.attrib:
        raise not_emulated("the datasource of a FetchXML query")
    entities = [child for child in root if child.tag == "entity"]
    if len(entities) != 1 or len(entities) != len(root):
        raise _bad("A fetch holds exactly one entity.")
    page = _whole(root, "page")
    return Fetch(
        entity=_entity(entities[0], 0),
        top=_whole(root, "top"),
        count=_whole(root, "count"),
        page=1 if page is None else max(page, 1),
        cookie=root.get("paging-cookie") or None,
        distinct=_flag(root, "distinct"),
        aggregate=_flag(root, "aggregate"),
        wants_total=_flag(root, "returntotalrecordcount"),
    )


def _flag(element: ET.Element, name: str) -> bool:
    return element.get(name, "false").lower() in {"true", "1"}


def _whole(element: ET.Element, name: str) -> int | None:
    text = element.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise _bad(f"The attribute '{name}' must be a whole number.")
    return int(text)


def _need(element: ET.Element, name: str) -> str:
    value = element.get(name)
    if not value:
        raise _bad(f"The attribute '{name}' of '{element.tag}' is missing.")
    return value


def _entity(element: ET.Element, depth: int) -> Entity:
    if depth > DEPTH_MAX:
        raise _bad("The query is nested too deeply.")
    attributes: list[Attribute] = []
    orders: list[Order] = []
    filters: list[Filter] = []
    links: list[Link] = []
    everything = False
    for child in element:
        match child.tag:
            case "attribute":
                attributes.append(_attribute(child))
            case "all-attributes":
                everything = True
            case "no-attrs":
                pass
            case "order":
                orders.append(
                    Order(
                        attribute=child.get("attribute"),
                        alias=child.get("alias"),
                        descending=_flag(child, "descending"),
                        entity=child.get("entityname"),
                    )
                )
            case "filter":
                filters.append(_filter(child, depth + 1))
            case "link-entity":
                links.append(_link(child, depth + 1))
            case _:
                raise _bad(f"Unexpected element '{child.tag}'.")
    return Entity(
        name=_need(element, "name"),
        attributes=tuple(attributes),
        all_attributes=everything,
        orders=tuple(orders),
        filters=tuple(filters),
        links=tuple(links),
    )


def _attribute(element: ET.Element) -> Attribute:
    aggregate = element.get("aggregate")
    if aggregate is not None and aggregate not in AGGREGATES:
        raise _bad(f"The aggregate '{aggregate}' is not known.")
    return Attribute(
        name=_need(element, "name"),
        alias=element.get("alias"),
        aggregate=aggregate,
        groups=_flag(element, "groupby"),
        date_grouping=element.get("dategrouping"),
        distinct=_flag(element, "distinct"),
    )


def _filter(element: ET.Element, depth: int) -> Filter:
    if depth > DEPTH_MAX:
        raise _bad("The query is nested too deeply.")
    members: list[Condition | Filter | Link] = []
    for child in element:
        match child.tag:
            case "condition":
                members.append(_condition(child))
            case "filter":
                members.append(_filter(child, depth + 1))
            case "link-entity":
                members.append(_link(child, depth + 1))
            case _:
                raise _bad(f"Unexpected element '{child.tag}'.")
    kind = element.get("type", "and")
    if kind not in {"and", "or"}:
        raise _bad(f"The filter type '{kind}' is not known.")
    return Filter(kind == "or", tuple(members))


def _condition(element: ET.Element) -> Condition:
    values = tuple(_texts(element))
    value = element.get("value")
    return Condition(
        attribute=_need(element, "attribute"),
        operator=_need(element, "operator"),
        values=values if value is None else (value, *values),
        entity=element.get("entityname"),
        value_of=element.get("valueof"),
    )


def _texts(element: ET.Element) -> Iterable[str]:
    for child in element:
        if child.tag != "value":
            raise _bad(f"Unexpected element '{child.tag}'.")
        yield child.text or ""


def _link(element: ET.Element, depth: int) -> Link:
    kind = element.get("link-type", "inner")
    if kind not in {"inner", "outer", "any", "not any", "exists", "in"}:
        raise not_emulated(f"the link-type '{kind}' of FetchXML")
    return Link(
        entity=_entity(element, depth),
        source=_need(element, "from"),
        target=_need(element, "to"),
        kind=kind,
        alias=element.get("alias"),
        intersect=_flag(element, "intersect"),
    )

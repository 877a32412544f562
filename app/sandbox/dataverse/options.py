"""What a read asks for: $select, $expand, $filter, $orderby, $top, $count, still without tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.sandbox.dataverse.expressions import Expression, Member
from app.sandbox.dataverse.failures import bad_request
from app.sandbox.dataverse.grammar import parse_expression
from app.sandbox.dataverse.tokens import split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.sandbox.dataverse.targets import Query

EXPAND_MAX = 15
PAGE_ROWS_MAX = 5000


@dataclass(frozen=True, slots=True)
class Order:
    path: tuple[str, ...]
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """`select=None`: every column. `text` is how an expand wrote its own options."""

    select: tuple[str, ...] | None = None
    filter: Expression | None = None
    orderby: tuple[Order, ...] = ()
    top: int | None = None
    count: bool = False
    expand: tuple[Expand, ...] = ()
    text: tuple[tuple[str, str], ...] = ()

    @property
    def nests(self) -> bool:
        """Whether an expand has an expand of its own: paging and etags differ then."""
        return any(e.asked.expand for e in self.expand)


@dataclass(frozen=True, slots=True)
class Expand:
    nav: str
    asked: Asked
    reference: bool = False


def read_options(query: Query) -> Asked:
    aliases = query.aliases
    values = {
        name: query.get(name)
        for name in ("$select", "$filter", "$orderby", "$top", "$count", "$expand")
    }
    asked = _asked(
        {k: v for k, v in values.items() if v is not None}, aliases=aliases, inside=False
    )
    if _expands(asked) > EXPAND_MAX:
        raise bad_request(
            f"The number of $expand options is greater than the allowed limit of {EXPAND_MAX}."
        )
    if asked.nests:
        for expand in asked.expand:
            if expand.asked.orderby or expand.asked.top is not None:
                raise bad_request(
                    "Only $select and $filter clause can be provided while doing $expand on "
                    "many-to-one relationship or nested one-to-many relationship."
                )
    return asked


def _expands(asked: Asked) -> int:
    return sum(1 + _expands(e.asked) for e in asked.expand)


def _asked(values: Mapping[str, str], *, aliases: Mapping[str, str], inside: bool) -> Asked:
    select = values.get("$select")
    names: tuple[str, ...] | None = None
    if select is not None:
        names = tuple(n for n in (part.strip() for part in select.split(",")) if n)
        if "*" in names:
            names = None
    where = values.get("$filter")
    order = values.get("$orderby")
    expand = values.get("$expand")
    return Asked(
        select=names,
        filter=parse_expression(where, aliases) if where is not None else None,
        orderby=_orderby(order, aliases) if order is not None else (),
        top=_number("$top", values.get("$top"), aliases),
        count=_flag(values.get("$count")),
        expand=tuple(_expand(p, aliases) for p in split(expand, ",") if p) if expand else (),
        text=tuple(values.items()) if inside else (),
    )


def _orderby(text: str, aliases: Mapping[str, str]) -> tuple[Order, ...]:
    orders: list[Order] = []
    for piece in split(text, ","):
        path, _, direction = piece.partition(" ")
        direction = direction.strip() or "asc"
        node = parse_expression(path, aliases)
        if not isinstance(node, Member) or direction not in {"asc", "desc"}:
            raise bad_request(f"Syntax error at position {len(path)} in '{text}'.")
        orders.append(Order(node.parts, direction == "desc"))
    return tuple(orders)


def _number(name: str, text: str | None, aliases: Mapping[str, str]) -> int | None:
    if text is None:
        return None
    text = aliases.get(text, text).strip()
    if not text.isdigit():
        raise bad_request(
            f"Invalid value '{text}' for {name} query option found. The {name} query option "
            "requires a non-negative integer value."
        )
    return int(text)


def _flag(text: str | None) -> bool:
    if text is None or text.strip() == "false":
        return False
    if text.strip() == "true":
        return True
    raise bad_request(f"Invalid value '{text}' for $count query option found.")


def _expand(text: str, aliases: Mapping[str, str]) -> Expand:
    path, bracket, rest = text.partition("(")
    path = path.strip()
    inner: dict[str, str] = {}
    if bracket:
        if not rest.endswith(")"):
            raise bad_request(f"Syntax error at position {len(text)} in '{text}'.")
        for piece in split(rest[:-1], ";"):
            if not piece:
                continue
            name, _, value = piece.partition("=")
            name = name.strip()
            if name not in {"$select", "$filter", "$orderby", "$top", "$expand"} or name in inner:
                raise bad_request(
                    f"Term '{piece}' is not valid in a $select or $expand expression."
                )
            inner[name] = value.strip()
    reference = path.endswith("/$ref")
    nav = path.removesuffix("/$ref")
    if "/" in nav:
        raise bad_request(f"The path '{nav}' is not supported in $expand.")
    return Expand(nav, _asked(inner, aliases=aliases, inside=True), reference)

"""Where a page ended, as Dataverse's $skiptoken and FetchXML paging cookies write it.

A cookie names the columns that the rows are ordered by, with their last values: opaque to a
client, and the reason why a broker must not let one be made up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from app.sandbox.dataverse.failures import Failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.sandbox.dataverse.terms import Binder

_PAGE = re.compile(r'pagenumber\s*=\s*"(\d+)"')
_COOKIE = re.compile(r'pagingcookie\s*=\s*"([^"]*)"')
_SINCE = re.compile(r'minversion\s*=\s*"(\d+)"')
_MARK = re.compile(r"<([\w.]+)\s+last(null)?=\"([^\"]*)\"")


@dataclass(frozen=True, slots=True)
class Mark:
    """The value of one order column in the last row of a page."""

    name: str
    last: Any
    first: Any = None


@dataclass(frozen=True, slots=True)
class Continuation:
    """`since`: with change tracking, the version when the first page was read."""

    page: int
    marks: tuple[Mark, ...]
    since: int | None = None


def _written(value: Any) -> str:
    text = str(value)
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text):
        return "{" + text.upper() + "}"
    return escape(text, {'"': "&quot;", "\n": "&#10;"})


def _read(text: str) -> str:
    for entity, char in (("&quot;", '"'), ("&#10;", "\n"), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(entity, char)
    text = text.replace("&amp;", "&")
    if re.fullmatch(r"\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}", text):
        return text[1:-1].lower()
    return text


def cookie_xml(page: int, marks: Sequence[Mark]) -> str:
    """The inner cookie: `<cookie page="1"><accountid last="{…}" first="{…}" /></cookie>`."""
    inside = "".join(
        f"<{m.name} {_side('last', m.last)} {_side('first', m.first)} />" for m in marks
    )
    return f'<cookie page="{page}">{inside}</cookie>'


def _side(side: str, value: Any) -> str:
    return f'{side}null="1"' if value is None else f'{side}="{_written(value)}"'


def skip_token(page: int, marks: Sequence[Mark], since: int | None = None) -> str:
    """For the page after `page`, before it is encoded into a URL."""
    inner = re.sub(r"%[0-9A-F]{2}", lambda m: m[0].lower(), quote(cookie_xml(page, marks), safe=""))
    tracked = "False" if since is None else f'True" minversion="{since}'
    return f'<cookie pagenumber="{page + 1}" pagingcookie="{inner}" istracking="{tracked}" />'


def read_skip_token(token: str) -> Continuation:
    page = _PAGE.search(token)
    cookie = _COOKIE.search(token)
    if page is None or cookie is None:
        raise Failed(400, "0x80040203", "Malformed XML in the Paging Cookie")
    since = _SINCE.search(token)
    marks = read_cookie(unquote(cookie[1]))
    return Continuation(int(page[1]), marks, int(since[1]) if since else None)


def read_cookie(xml: str) -> tuple[Mark, ...]:
    found = _MARK.findall(xml)
    if not found:
        raise Failed(400, "0x80040203", "Malformed XML in the Paging Cookie")
    return tuple(Mark(name, None if null else _read(value)) for name, null, value in found)


def after(order: list[tuple[str, bool]], continuation: Continuation, binder: Binder) -> str:
    """SQL for the rows that come after the last one of the page before; null sorts first."""
    if len(continuation.marks) != len(order):
        raise Failed(400, "0x80040203", "The paging cookie does not fit the query.")
    condition = "0"
    for (sql, descending), mark in reversed(list(zip(order, continuation.marks, strict=True))):
        value = binder.bind(mark.last)
        if mark.last is None:
            beyond = "0" if descending else f"{sql} IS NOT NULL"
        elif descending:
            beyond = f"({sql} < {value} OR {sql} IS NULL)"
        else:
            beyond = f"{sql} > {value}"
        condition = f"({beyond} OR ({sql} IS {value} AND {condition}))"
    return condition

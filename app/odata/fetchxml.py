"""FetchXML read into elements that are all known, and written again from them.

A vocabulary that is closed: an element or attribute that is not listed here is refused, since
nobody can say what it would reach. No DTD, no namespaces, no entities but XML's own five.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import msgspec

from app.errors import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS_MAX = 40
NODES_MAX = 2000
COOKIE_CODINGS_MAX = 5
"""How often a paging cookie may be percent-encoded, the plain text included."""

_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,127}", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,9}")

_ATTRIBUTES: dict[str, frozenset[str]] = {
    "fetch": frozenset(
        {
            "version", "mapping", "output-format", "distinct", "count", "page", "top",
            "paging-cookie", "returntotalrecordcount", "aggregate", "aggregatelimit", "no-lock",
            "latematerialize", "useraworderby", "options", "datasource", "utc-offset",
            "min-active-row-version",
        }
    ),
    "entity": frozenset({"name"}),
    "link-entity": frozenset(
        {"name", "from", "to", "alias", "link-type", "visible", "intersect"}
    ),
    "attribute": frozenset(
        {
            "name", "alias", "aggregate", "groupby", "dategrouping", "distinct", "rowaggregate",
            "usertimezone",
        }
    ),
    "all-attributes": frozenset(),
    "no-attrs": frozenset(),
    "order": frozenset({"attribute", "alias", "descending", "entityname"}),
    "filter": frozenset(
        {
            "type", "hint", "isquickfindfields", "overridequickfindrecordlimitenabled",
            "overridequickfindrecordlimitdisabled",
        }
    ),
    "condition": frozenset(
        {
            "attribute", "operator", "value", "entityname", "valueof", "uiname", "uitype",
            "uihidden",
        }
    ),
    "value": frozenset({"uiname", "uitype"}),
}  # fmt: skip
_ROWS = frozenset({"attribute", "all-attributes", "no-attrs", "order", "link-entity", "filter"})
_CHILDREN: dict[str, frozenset[str]] = {
    "fetch": frozenset({"entity"}),
    "entity": _ROWS,
    "link-entity": _ROWS,
    "filter": frozenset({"condition", "filter", "link-entity"}),
    "condition": frozenset({"value"}),
}
_NAMES = {
    "entity": ("name",),
    "link-entity": ("name", "from", "to", "alias"),
    "attribute": ("name", "alias"),
    "order": ("attribute", "alias", "entityname"),
    "condition": ("attribute", "entityname"),
}
_REQUIRED = {
    "entity": ("name",),
    "link-entity": ("name", "from", "to"),
    "attribute": ("name",),
    "condition": ("attribute", "operator"),
}


class Node(msgspec.Struct, frozen=True):
    """One element; `text` only in `<value>`."""

    tag: str
    attributes: tuple[tuple[str, str], ...] = ()
    children: tuple[Node, ...] = ()
    text: str = ""

    def get(self, name: str) -> str | None:
        return next((v for k, v in self.attributes if k == name), None)

    def find(self, tag: str) -> Iterator[Node]:
        return (c for c in self.children if c.tag == tag)

    def __repr__(self) -> str:
        return f"Node({self.tag!r}, …)"

    def xml(self) -> str:
        opening = self.tag + "".join(f" {k}={_quoted(v)}" for k, v in self.attributes)
        if not self.children and not self.text:
            return f"<{opening}/>"
        inside = escape(self.text, {"\r": "&#13;"}) + "".join(c.xml() for c in self.children)
        return f"<{opening}>{inside}</{self.tag}>"


def _quoted(value: str) -> str:
    # Line breaks in attribute values would come back as spaces.
    return quoteattr(value, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


class Fetch(msgspec.Struct, frozen=True):
    """A whole query. `cookie_columns` are what its paging cookie holds values of."""

    root: Node
    cookie_columns: tuple[str, ...] = ()

    @property
    def entity(self) -> Node:
        return self.root.children[0]

    @property
    def aggregate(self) -> bool:
        return self.root.get("aggregate") in {"true", "1"}

    def xml(self) -> str:
        return self.root.xml()


class _Builder:
    def __init__(self) -> None:
        self._open: list[tuple[str, dict[str, str], list[Node], list[str]]] = []
        self._nodes = 0
        self.root: Node | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._nodes += 1
        if len(self._open) >= LEVELS_MAX or self._nodes > NODES_MAX:
            raise Unreadable(
                "limit-exceeded",
                f"fetchXml has more than {LEVELS_MAX} levels or {NODES_MAX} elements",
            )
        parent = self._open[-1][0] if self._open else None
        allowed = {"fetch"} if parent is None else _CHILDREN.get(parent, frozenset())
        if tag not in allowed:
            raise _bad("has an element that is not read where it stands")
        unknown = attributes.keys() - _ATTRIBUTES[tag]
        if unknown:
            raise _bad(f"has an attribute of <{tag}> that is not read")
        for name in _NAMES.get(tag, ()):
            if name in attributes and _IDENTIFIER.fullmatch(attributes[name]) is None:
                raise _bad(f"has a <{tag}> whose {name} is no plain identifier")
        for name in _REQUIRED.get(tag, ()):
            if name not in attributes:
                raise _bad(f"has a <{tag}> without {name}")
        self._open.append((tag, attributes, [], []))

    def end(self, tag: str) -> None:
        name, attributes, children, text = self._open.pop()
        said = "".join(text)
        if name != "value":
            if said.strip():
                raise _bad(f"has text in <{tag}>")
            said = ""
        node = Node(name, tuple(attributes.items()), tuple(children), said)
        if self._open:
            self._open[-1][2].append(node)
        else:
            self.root = node

    def text(self, data: str) -> None:
        if self._open:
            self._open[-1][3].append(data)


def _bad(what: str) -> Unreadable:
    return Unreadable("bad-fetchxml", f"fetchXml {what}")


def _refuse_doctype(*_: object) -> None:
    raise _bad("has a DOCTYPE")


def _refuse_more(*_: object) -> None:
    raise _bad("has a paging-cookie with more than elements and attributes")


def read_fetch(source: str) -> Fetch:
    """Raises `Unreadable`: `bad-fetchxml` or `limit-exceeded`."""
    builder = _Builder()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(source.strip().encode("utf-8"), True)
    except expat.ExpatError as error:
        raise _bad(f"is not well-formed: {expat.ErrorString(error.code)}") from None
    except UnicodeEncodeError:
        raise _bad("holds half of a surrogate pair") from None
    root = builder.root
    if root is None or len(root.children) != 1:
        raise _bad("must be one <fetch> with one <entity>")
    for name in ("count", "page", "top"):
        value = root.get(name)
        if value is not None and _WHOLE.fullmatch(value) is None:
            raise _bad(f"has a {name} that is no whole number")
    return Fetch(root, _cookie_columns(root.get("paging-cookie")))


def _cookie_columns(cookie: str | None) -> tuple[str, ...]:
    """The columns that a paging cookie carries values of: its elements' names.

    Clients hand back what they decoded zero, one or two times, and nobody says how often
    Dataverse decodes: what any of the readings names counts.
    """
    if not cookie:
        return ()
    columns: dict[str, None] = {}
    read = False
    for _ in range(COOKIE_CODINGS_MAX):
        if cookie.lstrip().startswith("<"):
            found = _cookie_elements(cookie)
            if found is None and not read:
                raise _bad("has a paging-cookie that is not well-formed")
            read = True
            columns.update(dict.fromkeys(found or ()))
        decoded = unquote(cookie)
        if decoded == cookie:
            break
        cookie = decoded
    else:
        raise _bad("has a paging-cookie that is encoded too often")
    if not read:
        raise _bad("has a paging-cookie that is no <cookie>")
    return tuple(columns)


def _cookie_elements(cookie: str) -> list[str] | None:
    """None where it is no XML."""
    columns: list[str] = []
    depth = 0

    def start(tag: str, _attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth == 1 and tag != "cookie":
            raise _bad("has a paging-cookie that is no <cookie>")
        if depth > 2:
            raise _bad("has a paging-cookie with nested elements")
        if depth == 2:
            columns.append(tag)

    def end(_tag: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    # A reader that looks for tags would find them in here, too.
    parser.CommentHandler = _refuse_more
    parser.ProcessingInstructionHandler = _refuse_more
    parser.StartCdataSectionHandler = _refuse_more
    try:
        parser.Parse(cookie.encode("utf-8"), True)
    except (expat.ExpatError, UnicodeEncodeError):
        return None
    return columns

"""Requests that somebody really sent, with something wrong in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.path.making.names import NAMESPACE, NOBODY, SERVICE
from tests.path.second_reader import ENVIRONMENT, Asking

if TYPE_CHECKING:
    from tests.path.making.dice import Dice

_LINK = (
    "<link-entity name='contact' from='parentcustomerid' to='accountid'><all-attributes/>"
    "</link-entity>"
)
_PIECES: tuple[str, ...] = (
    *"'\"();/&#?+$*,:={}[]\\ \n",
    *("''", "//", "/..", "&&", "--", "\r\n", "<!--", "\u00e9", "\u2028", "\u0660", "\uff41"),
    *("%2f", "%2F", "%5c", "%00", "%27", "%22", "%25", "%c0", "%0d%0a", "%E2%80%8B", "%20", "%24"),
    *("@p1", "$ref", "/$ref", "/$value", "/$count", "$1", "eq", " or true", " and ", "null"),
    *("not ", "any(x:x/", "$select=", "$expand=ownerid", "$filter=creditlimit gt 1"),
    *("&$select=name", "&%24select=creditlimit", "&fetchXml=", "&$filter=revenue gt 1"),
    *("&sql=SELECT creditlimit FROM account", "&$apply=aggregate(creditlimit with max as m)"),
    *("creditlimit", "governmentid", "ownerid", "primarycontactid", "_primarycontactid_value"),
    *("systemusers", "accounts", "contacts", "principals", "account", NOBODY, "\\u0040"),
    *("@odata.bind", "@odata.id", "@odata.type", '"creditlimit":1,', '"name":"x",'),
    *("Content-ID: 1\r\n", "HTTP/1.1", "GET ", "DELETE ", "https://evil.example/", SERVICE),
    *(f"{ENVIRONMENT}{SERVICE}", f"{NAMESPACE}.", "<all-attributes/>", "<no-attrs/>", _LINK),
)
_HEADERS = (
    ("If-Match", "*"), ("If-Match", 'W/"1"'), ("If-None-Match", "*"), ("If-None-Match", "null"),
    ("Prefer", "return=representation"), ("Prefer", "odata.track-changes"),
    ("Prefer", "odata.maxpagesize=1"), ("Content-Type", "application/json"),
    ("CallerObjectId", NOBODY), ("MSCRMCallerID", NOBODY), ("Content-Encoding", "gzip"),
    ("Connection", "If-Match"), ("X-HTTP-Method-Override", "DELETE"),
)  # fmt: skip
_METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "get", "QUERY")


def mutated(asking: Asking, dice: Dice) -> Asking:
    method, target, headers, body = asking.method, asking.target, asking.headers, asking.body
    for _ in range(dice.number(1, 3)):
        match dice.number(0, 9):
            case 0 | 1 | 2 | 3:
                target = _text(target, dice)
            case 4 | 5 | 6 | 7 if body:
                body = _text(body.decode("utf-8", "replace"), dice).encode("utf-8", "replace")
            case 8:
                headers = _header(headers, dice)
            case 9:
                method = dice.pick(_METHODS)
    # A request line holds bytes: what is beyond them comes in UTF-8.
    raw = target.encode("utf-8").decode("latin-1")
    return Asking(method, raw, headers, body)


def _text(text: str, dice: Dice) -> str:
    start = dice.number(0, len(text))
    end = min(len(text), start + dice.number(0, 12))
    before, piece, after = text[:start], text[start:end], text[end:]
    match dice.number(0, 5):
        case 0:
            return before + after
        case 1:
            return before + piece + piece + after
        case 2:
            return before + piece.swapcase() + after
        case 3:
            return before + "".join(f"%{b:02x}" for b in piece.encode()) + after
        case _:
            return before + dice.pick(_PIECES) + (after if dice.chance(0.5) else piece + after)


def _header(headers: tuple[tuple[str, str], ...], dice: Dice) -> tuple[tuple[str, str], ...]:
    if headers and dice.chance(0.4):
        at = dice.number(0, len(headers) - 1)
        return headers[:at] + headers[at + 1 :]
    return (*headers, dice.pick(_HEADERS))

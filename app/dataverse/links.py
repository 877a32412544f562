"""Links in JSON answers, turned towards the broker while the answer streams through.

The scan is local, not a parse. In JSON a quote that follows a letter directly is no escaped
one, so `…@odata.nextLink"` ends a string, and a string before a colon is a property's name:
what is found this way is a link, and what stands inside data never is (there, quotes are
escaped). Everything else is passed on byte for byte.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Final, cast

from app.dataverse.failures import ExchangeFailed, Stage
from app.dataverse.link_marks import may_name_a_link

if TYPE_CHECKING:
    from app.dataverse.link_bases import LinkBases, LinkKind, Seal

LINK_MAX_BYTES: Final = 64 * 1024
"""A link's value as it stands in the JSON. Dataverse's own URLs end at 32 KiB."""

NAME_MAX_BYTES: Final = 512
"""A property name that carries a link, quotes and escapes included."""

HELD_BYTES: Final = 2 * NAME_MAX_BYTES

WINDOW_BYTES: Final = 16 * 1024
"""So much is asked for a link's name at once; only where there may be one it is read closely."""

LINK_NAMES: Final = (
    "context",
    "id",
    "nextLink",
    "deltaLink",
    "editLink",
    "readLink",
    "navigationLink",
    "associationLink",
    "mediaReadLink",
    "mediaEditLink",
)
SEALED_NAMES: Final = frozenset({"nextLink", "deltaLink"})

_NAME_END: Final = re.compile(rb"@odata\.(?:" + "|".join(LINK_NAMES).encode() + rb')"')
_NAME_END_BYTES: Final = max(len(f'@odata.{name}"') for name in LINK_NAMES)
_ANNOTATION: Final = re.compile(r"(.*)@odata\.(" + "|".join(LINK_NAMES) + r")", re.DOTALL)

# `@`, `.` and letters need no escape, and nobody writes them so; but a name in which one is
# escaped is the same name. `\u00e4` and the like, which Dataverse does write, are none of these.
_ESCAPED_NAME: Final = re.compile(rb"\\u00(?:2[eE]|40|[46][1-9a-fA-F]|[57][0-9aA])")
_STRING_REST: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_COLON: Final = re.compile(rb"[ \t\r\n]*+(:?)[ \t\r\n]*+")
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_CONTEXT_FIRST: Final = b'{"@odata.context":"'
_WHITE: Final = b" \t\r\n"
_PLAIN: Final = re.compile(r"[ !#-\[\]-~]*")


class LinkRewriter:
    """Bytes in, bytes out; the same bytes out however the input was cut.

    Holds back what could still become a link: 1 KiB, up to 64 KiB inside of one.
    Raises `ExchangeFailed` (`upstream-malformed`) for links that are longer.
    """

    __slots__ = ("_bases", "_carry", "_cursor", "_data", "_out", "_seal")

    def __init__(self, bases: LinkBases, seal: Seal) -> None:
        self._bases = bases
        self._seal = seal
        self._carry = b""
        self._data = b""
        self._cursor = 0
        self._out: list[bytes] = []

    def feed(self, chunk: bytes) -> bytes:
        data = self._carry + chunk if self._carry else chunk
        held = self._scan(data, final=False)
        if held is None:
            held = self._hold_from(len(data))
        if len(data) - held > 2 * LINK_MAX_BYTES:
            raise _malformed("white space without end")
        self._carry = data[held:]
        return self._taken(data, held)

    def finish(self, last: bytes = b"") -> bytes:
        """What was held back, and `last` behind it. The rewriter is used up then."""
        data, self._carry = self._carry + last, b""
        if self._scan(data, final=True) is not None:
            raise _malformed("an end in the middle of a link")
        return self._taken(data, len(data))

    def whole(self, data: bytes) -> bytes:
        """An answer that is here from its first byte to its last. The rewriter is used up then."""
        if not data.startswith(_CONTEXT_FIRST):
            return self.finish(data)
        # As Dataverse begins nearly always, with a link that nearly always stays the same.
        start = len(_CONTEXT_FIRST)
        end = data.find(b'"', start)
        context = None if end < 0 else _context_for_caller(self._bases, data[start:end])
        if context is None:
            return self.finish(data)
        self._out = [_CONTEXT_FIRST, context]
        self._cursor = end
        self._scan(data, final=True)
        return self._taken(data, len(data))

    def _taken(self, data: bytes, end: int) -> bytes:
        out, cursor = self._out, self._cursor
        self._out, self._cursor, self._data = [], 0, b""
        if not out:
            return data[:end]
        out.append(data[cursor:end])
        return b"".join(out)

    # ------------------------------------------------------------------ finding

    def _scan(self, data: bytes, *, final: bool) -> int | None:
        """Rewrite every whole link; the start of an unfinished one, where there is one."""
        self._data = data
        for end in _name_ends(data, max(0, self._cursor - _NAME_END_BYTES)):
            if end > self._cursor:
                held = self._link(end, final=final)
                if held is not None:
                    return held
        return None

    def _link(self, name_end: int, *, final: bool) -> int | None:
        """Rewrite the link whose name ends before `name_end`, if it is one.

        Gives the position from which to hold back where its end is not here yet.
        """
        data = self._data
        colon = _COLON.match(data, name_end)
        assert colon is not None
        if not colon[1]:
            undecided = colon.end() == len(data) and not final
            return self._hold_from(name_end) if undecided else None
        start = _opening_quote(data, name_end - 1, self._cursor)
        if start is None:
            raise _malformed(f"a property name of more than {NAME_MAX_BYTES} bytes")
        annotation = _ANNOTATION.fullmatch(_decoded(data[start:name_end]))
        if annotation is None:
            return None
        before = _before_comma(data, start, self._cursor)
        value_start = colon.end()
        if value_start == len(data):
            return None if final else before
        if data[value_start] != 0x22:
            return None
        value = _STRING.match(data, value_start)
        if (len(data) if value is None else value.end()) - value_start > LINK_MAX_BYTES + 2:
            raise _malformed(f"a link of more than {LINK_MAX_BYTES} bytes")
        if value is None:
            return before
        space = _SPACE.match(data, value.end())
        assert space is not None
        if space.end() == len(data) and not final:
            return before
        new = self._rewritten(annotation[1], annotation[2], _decoded(value[0]))
        if new is None:
            self._drop(before, start, value.end(), space.end())
        else:
            self._replace(value.start(), value.end(), _encoded(new))
        return None

    def _hold_from(self, end: int) -> int:
        """What may be a name that ends at `end` or later, with the comma that goes if it goes."""
        return _before_comma(self._data, max(self._cursor, end - HELD_BYTES), self._cursor)

    def _rewritten(self, owner: str, name: str, url: str) -> str | None:
        broker_url = self._bases.to_broker(url)
        if broker_url is None or name not in SEALED_NAMES:
            return broker_url
        return self._seal(cast("LinkKind", name), owner, url)

    # ---------------------------------------------------------------- replacing

    def _replace(self, start: int, end: int, new: bytes) -> None:
        self._out.append(self._data[self._cursor : start])
        self._out.append(new)
        self._cursor = end

    def _drop(self, before: int, start: int, end: int, after_space: int) -> None:
        """Take the property out, and one comma with it: the one before where there is one."""
        if before < start and self._data[before] == 0x2C:
            self._replace(before, end, b"")
        elif self._data[after_space : after_space + 1] == b",":
            self._replace(start, after_space + 1, b"")
        else:
            self._replace(start, end, b"")


@functools.lru_cache(maxsize=4096)
def _context_for_caller(bases: LinkBases, literal: bytes) -> bytes | None:
    """What stands between the quotes, rewritten; None where it takes a closer look."""
    if b"\\" in literal or not literal.isascii() or len(literal) > LINK_MAX_BYTES:
        return None
    url = bases.to_broker(literal.decode("ascii"))
    return None if url is None else _encoded(url)[1:-1]


def _opening_quote(data: bytes, closing: int, floor: int) -> int | None:
    """Where the string that ends at `closing` begins; None where that is too far back."""
    floor = max(floor, closing + 1 - NAME_MAX_BYTES)
    at = closing
    while (at := data.rfind(b'"', floor, at)) >= 0:
        escapes = at
        while escapes > 0 and data[escapes - 1] == 0x5C:
            escapes -= 1
        if (at - escapes) % 2 == 0:
            return at
    return None


def _before_comma(data: bytes, position: int, floor: int) -> int:
    """Back over white space and one comma."""
    while position > floor and data[position - 1] in _WHITE:
        position -= 1
    if position > floor and data[position - 1] == 0x2C:
        position -= 1
    return position


def _name_ends(data: bytes, start: int) -> list[int]:
    """Where names of links may end, in their order; from `start` on nothing is missed."""
    ends: list[int] = []
    escaped = False
    for first in range(start, len(data), WINDOW_BYTES):
        past = first + WINDOW_BYTES
        # What begins in one window may end in the next.
        window = data[first : past + _NAME_END_BYTES]
        if may_name_a_link(window):
            ends += [
                first + found.end()
                for found in _NAME_END.finditer(window)
                if found.start() < WINDOW_BYTES
            ]
            escaped = escaped or _ESCAPED_NAME.search(window) is not None
    return sorted({*ends, *_ends_of_escaped(data)}) if escaped else ends


def _ends_of_escaped(data: bytes) -> list[int]:
    """Where the strings end that have a name's letter escaped. Each string is looked at once."""
    ends: list[int] = []
    past = 0
    for found in _ESCAPED_NAME.finditer(data):
        if found.start() < past:
            continue
        escapes = found.start()
        while escapes > past and data[escapes - 1] == 0x5C:
            escapes -= 1
        if (found.start() - escapes) % 2:
            continue
        rest = _STRING_REST.match(data, found.start())
        if rest is None:
            break
        past = rest.end()
        ends.append(past)
    return ends


def _decoded(literal: bytes) -> str:
    try:
        text = json.loads(literal) if b"\\" in literal else literal[1:-1].decode()
    except ValueError as e:
        raise _malformed("a string that is no JSON") from e
    return cast("str", text)


def _encoded(text: str) -> bytes:
    return (f'"{text}"' if _PLAIN.fullmatch(text) else json.dumps(text)).encode("ascii")


def _malformed(what: str) -> ExchangeFailed:
    return ExchangeFailed(
        "upstream-malformed", f"Dataverse's answer has {what}", stage=Stage.ANSWERING
    )
